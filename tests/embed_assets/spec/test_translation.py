"""Where a pipeline stands in Dagster's graph changes its keys, group, tags and ops, and no row and no vector."""

from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from embed_assets import EmbeddingPipeline, Settings, SpecError, build_definitions, load_pipeline, load_pipelines
from embed_assets.spec.translation import Translation
from tests.kits import pipelines as kit
from tests.kits.compute.in_process import InProcessCompute
from tests.kits.pipeline_files import pipeline_file

PLACED: dict[str, Any] = {
    "translation": {
        "key": "{asset}/{pipeline}", "key_prefix": "search/prod", "names": {"raw_reviews": "texts"},
        "group": "search", "tags": {"team": "search"},
    },
    "op": {"pool": "p", "tags": {"a": "1"}, "steps": {"embedding_shards": {"pool": "gpus", "tags": {"b": "2"}}}},
    "datasets.0.deps": ["warehouse/tickets", "a"],
}  # fmt: skip


def graph_of(pipeline: EmbeddingPipeline) -> tuple[dg.Definitions, Any]:
    resources = {"lake": dg.ResourceDefinition.none_resource(), "compute": InProcessCompute()}
    defs = dg.Definitions.merge(build_definitions([pipeline], Settings()), dg.Definitions(resources=resources))
    return defs, defs.resolve_asset_graph()


def test_the_identities_know_nothing_of_it(tmp_path: Path) -> None:
    plain, placed = load_pipeline(pipeline_file(tmp_path)), load_pipeline(pipeline_file(tmp_path, PLACED))
    assert plain != placed
    assert plain.embedding.spec_id == placed.embedding.spec_id
    assert [d.ingest_identity() for d in plain.datasets] == [d.ingest_identity() for d in placed.datasets]
    versions = [
        {
            spec.code_version
            for asset in build_definitions([one], Settings()).assets or []
            for spec in getattr(asset, "specs", [])
        }
        for one in (plain, placed)
    ]
    assert versions[0] == versions[1]


def test_keys_group_and_tags_are_as_told(tmp_path: Path) -> None:
    _, graph = graph_of(load_pipeline(pipeline_file(tmp_path, PLACED)))
    ours = [node for node in graph.asset_nodes if node.key.path[0] == "search"]
    keys = {node.key.to_user_string() for node in ours}
    assert {
        f"search/prod/{name}/p" for name in ("texts", "stride_partitions", "embedding_shards", "vector_index")
    } <= keys
    assert len(ours) >= 4
    for node in ours:
        assert node.group_name == "search" and node.tags["team"] == "search"


def test_without_it_all_is_as_before(tmp_path: Path) -> None:
    _, graph = graph_of(load_pipeline(pipeline_file(tmp_path)))
    for node in graph.asset_nodes:
        assert node.key.path[0] == "p" and node.group_name == "p"


def test_a_step_has_its_own_pool_and_more_tags(tmp_path: Path) -> None:
    defs, _ = graph_of(load_pipeline(pipeline_file(tmp_path, PLACED)))
    ops = {
        asset.op.name: asset.op
        for asset in defs.assets or []
        if isinstance(asset, dg.AssetsDefinition) and asset.is_executable
    }
    shards, raw = ops["p__embedding_shards"], ops["p__raw_reviews"]
    assert (shards.pool, {k: shards.tags.get(k) for k in "ab"}) == ("gpus", {"a": "1", "b": "2"})
    assert (raw.pool, {k: raw.tags.get(k) for k in "ab"}) == ("p", {"a": "1", "b": None})
    assert {op.pool for op in ops.values()} == {"gpus", "p"}
    (update,) = (op for op in defs.resolve_job_def("p__update").all_node_defs if op.name == "p__update_op")
    assert (update.pool, {k: update.tags.get(k) for k in "ab"}) == ("gpus", {"a": "1", "b": "2"})


@pytest.mark.parametrize(
    "partitions", [None, dg.StaticPartitionsDefinition(["x"]), dg.DailyPartitionsDefinition("2026-01-01")]
)
def test_deps_stand_before_raw_reviews(tmp_path: Path, partitions: Any) -> None:
    """However they are partitioned."""

    @dg.asset(key=["warehouse", "tickets"], partitions_def=partitions)
    def tickets() -> None: ...

    defs, _ = graph_of(load_pipeline(pipeline_file(tmp_path, PLACED)))
    merged = dg.Definitions.merge(defs, dg.Definitions(assets=[tickets]))
    dg.Definitions.validate_loadable(merged)
    raw = merged.resolve_asset_graph().get(dg.AssetKey(["search", "prod", "texts", "p"]))
    assert {key.to_user_string() for key in raw.parent_keys} == {"warehouse/tickets", "a"}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"translation": {"key": "search/all"}}, "translation.key: 'search/all' has no `{asset}`"),
        ({"translation": {"key": "a b/{asset}"}}, "translation.key: 'a b/a' is not an asset key"),
        ({"translation": {"key": "{dataset}/{asset}"}}, "is not an asset key"),
        ({"translation": {"key_prefix": "/a"}}, "translation.key_prefix: '/a' is not an asset key"),
        ({"translation": {"names": {"raw_reviews": "vector_index"}}}, "two assets are called 'vector_index'"),
        ({"translation": {"names": {"raw_review": "x"}}}, "translation.names.raw_review: unknown key; did you mean 'raw_reviews'?"),
        ({"translation": {"group": "a-b"}}, "translation.group"),
        ({"translation": {"tags": {"a b": "x"}}}, "translation.tags: 'a b' is not a tag"),
        ({"translation": {"tags": {"a": 1}}}, "should be a valid string (got '1')"),
        ({"op": {"pool": "a b"}}, "op.pool: 'a b' is not the name of a pool"),
        ({"datasets.0.deps": ["a//b"]}, "datasets.0.deps.0: 'a//b' is not an asset key"),
        ({"datasets.0.deps": "a"}, "datasets.0.deps: should be a valid list"),
    ],
)  # fmt: skip
def test_a_fault_is_told_at_its_key(tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(SpecError) as caught:
        load_pipeline(pipeline_file(tmp_path, changes))
    assert says in str(caught.value)


def test_two_pipelines_may_not_have_one_key(tmp_path: Path) -> None:
    key = {"translation": {"key": "search/{asset}"}}
    files = [
        pipeline_file(tmp_path, key, "p.yaml"),
        pipeline_file(tmp_path, {**key, "name": "q", "datasets.0.name": "e"}, "q.yaml"),
    ]
    with pytest.raises(SpecError, match=r"q.yaml and .*p.yaml both have an asset 'search/raw_reviews'"):
        load_pipelines(files)


TAG = st.one_of(st.text(max_size=8), st.text("aZ0_.-/", max_size=70))


@given(st.dictionaries(TAG, TAG, max_size=2))
def test_dagster_takes_each_tag_that_we_take(tags: dict[str, str]) -> None:
    try:
        Translation(tags=tags)
    except ValidationError:
        return
    assert dg.AssetSpec("a", tags=tags).tags == tags


def test_a_range_is_one_run_where_all_partitions_fit_into_one() -> None:
    pipeline = kit.pipeline([kit.dataset("a.csv", strides=7)])  # and the delta
    for per_run, policy in ((8, dg.BackfillPolicy.single_run()), (7, dg.BackfillPolicy.multi_run(7))):
        defs, _ = graph_of(pipeline)
        defs = build_definitions([pipeline], Settings(partitions_per_run=per_run))
        found = {
            a.op.name: a.backfill_policy
            for a in defs.assets or []
            if isinstance(a, dg.AssetsDefinition) and a.is_executable
        }
        assert found["p__embedding_shards"] == policy
        assert found["p__stride_partitions"] == found["p__raw_reviews"] == dg.BackfillPolicy.single_run()
