"""The assets between other people's assets: what stands beside, above and below them behaves as Dagster users expect."""

from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.storage.tags import ASSET_PARTITION_RANGE_END_TAG, ASSET_PARTITION_RANGE_START_TAG

from tests.kits import pipelines as kit
from tests.kits.graph_bench import CHECK, INDEX, MATERIALIZATION, RAW, SET, SHARDS, STRIDES, GraphBench

pytestmark = pytest.mark.slow


def run_together(bench: GraphBench, definitions: dg.Definitions, keys: list[dg.AssetKey]) -> dg.ExecuteInProcessResult:
    partitions = bench.partitions()
    tags = {ASSET_PARTITION_RANGE_START_TAG: partitions[0], ASSET_PARTITION_RANGE_END_TAG: partitions[-1]}
    job = definitions.resolve_implicit_global_asset_job_def()
    return job.execute_in_process(instance=bench.instance, asset_selection=keys, tags=tags, raise_on_error=False)


def test_what_stands_downstream_in_the_same_run_runs(bench: GraphBench) -> None:
    assert bench.run(RAW, "a", "b").success
    ran: list[str] = []

    @dg.asset(
        key="export", deps=[SHARDS], partitions_def=bench.definitions().resolve_asset_graph().get(SHARDS).partitions_def,
        backfill_policy=dg.BackfillPolicy.single_run(),
    )  # fmt: skip
    def export(context: dg.AssetExecutionContext) -> None:
        ran.extend(context.partition_keys)

    definitions = dg.Definitions.merge(bench.definitions(), dg.Definitions(assets=[export]))
    run = run_together(bench, definitions, [STRIDES, SHARDS, export.key])
    assert run.success and ran == bench.partitions()
    made = [e.step_materialization_data.materialization.asset_key for e in bench.events(run, MATERIALIZATION)]
    assert {key: made.count(key) for key in (STRIDES, SHARDS, SET, export.key)} == {
        STRIDES: 7, SHARDS: 7, SET: 2, export.key: 7,
    }  # fmt: skip
    assert bench.events(run, dg.DagsterEventType.STEP_SKIPPED) == []
    assert "did not yield" not in bench.log(run)


def test_what_stands_downstream_of_a_failed_step_does_not_run(bench: GraphBench) -> None:
    bench.prepare()
    bench.break_input("b-00001")
    run = run_together(bench, bench.definitions(), [SHARDS])
    assert not run.success
    assert bench.instance.get_materialized_partitions(SHARDS) == set(bench.partitions()) - {"b-00001"}


def test_an_input_that_a_user_added_is_in_the_provenance(bench: GraphBench) -> None:
    above = dg.AssetSpec("my_export", skippable=True)

    def with_input(spec: dg.AssetSpec) -> dg.AssetSpec:
        return spec.replace_attributes(deps=[*spec.deps, "my_export"]) if spec.key in (RAW, SHARDS) else spec

    plain = bench.definitions
    bench.definitions = lambda: dg.Definitions.merge(  # type: ignore[method-assign]
        plain().map_resolved_asset_specs(func=with_input), dg.Definitions(assets=[above])
    )
    bench.instance.report_runless_asset_event(
        dg.AssetMaterialization("my_export", tags={"dagster/data_version": "of today"})
    )
    bench.all()
    assert bench.stale(RAW, ["a", "b"]) == {} and bench.stale(SHARDS, bench.partitions()) == {}
    bench.instance.report_runless_asset_event(
        dg.AssetMaterialization("my_export", tags={"dagster/data_version": "of tomorrow"})
    )
    assert set(bench.stale(RAW, ["a", "b"])) == {"a", "b"}
    assert bench.update().success
    assert bench.stale(STRIDES, bench.partitions()) == {}


def test_another_dataset_leaves_the_others_as_they_were(bench: GraphBench, tmp_path: Path) -> None:
    bench.all()
    partitions = bench.partitions()
    bench.sources["c"] = kit.write_jsonl(tmp_path / "c.jsonl", kit.texts(5))
    bench.strides["c"] = 2
    assert bench.stale(RAW, ["a", "b"]) == {}
    assert bench.stale(STRIDES, partitions) == {} and bench.stale(SHARDS, partitions) == {}
    bench.strides["b"] = 3
    assert bench.stale(STRIDES, bench.partitions("a")) == {}, "another cut of b is nothing to a"


def test_another_filter_on_the_same_lake_leaves_ours_as_it_is(bench: GraphBench) -> None:
    """Another code location with a dataset of the same name."""
    bench.all()
    bench.ingest = {"where": {"n": [1, 2, 3]}}
    assert bench.run(RAW, "a").success
    bench.ingest = {}
    run = bench.run(STRIDES, "a-00000")
    assert (
        bench.made(run)["a-00000"] | {"dagster/partition_row_count": 7, "adopted": True} == bench.made(run)["a-00000"]
    )
    assert bench.made(bench.run(SHARDS, "a-00000"))["a-00000"]["adopted"]


def test_the_check_job_takes_datasets_and_a_sample(bench: GraphBench) -> None:
    bench.all()
    job = bench.definitions().resolve_job_def("p__check")
    config = {"ops": {"p__check_op": {"config": {"datasets": ["a"], "sample": 2}}}}
    run = job.execute_in_process(instance=bench.instance, run_config=config)
    seen: dict[Any, set[str]] = {}
    for event in bench.events(run, CHECK):
        found = event.asset_check_evaluation_data
        assert found.passed
        seen.setdefault(found.asset_key, set()).add(found.partition)
    some = {"a-00000", "a-00002"}
    assert seen == {RAW: {"a", "a-delta"}, STRIDES: some, SHARDS: some, INDEX: {"a"}}
    assert bench.events(run, MATERIALIZATION) == []
    config["ops"]["p__check_op"]["config"]["datasets"] = ["c"]
    run = job.execute_in_process(instance=bench.instance, run_config=config, raise_on_error=False)
    assert bench.failure(run).description == "datasets: p has no 'c'; it has a, b"


def test_metadata_has_a_dozen_figures_and_the_rest_in_details(bench: GraphBench) -> None:
    bench.all()
    for key, partition in [(RAW, "a"), (STRIDES, "a-00001"), (SHARDS, "a-00001"), (SET, "a"), (INDEX, "a")]:
        materialization = bench.latest(key, partition).asset_materialization
        assert materialization is not None
        numbers = [k for k, v in materialization.metadata.items() if isinstance(v.value, int | float)]
        assert len(numbers) <= 12, (key, numbers)
        assert {"details", "next", "dagster/uri", "dagster/partition_row_count"} <= materialization.metadata.keys()
        assert "dagster/row_count" not in materialization.metadata


def test_lineage_of_columns_goes_through_to_the_index(bench: GraphBench) -> None:
    bench.all()
    materialization = bench.latest(INDEX, "a").asset_materialization
    assert materialization is not None
    lineage: Any = materialization.metadata["dagster/column_lineage"].value
    assert [(d.asset_key, d.column_name) for d in lineage.deps_by_column["vector"]] == [(SHARDS, "embedding")]
    assert {d.asset_key for d in lineage.deps_by_column["passage"]} == {STRIDES, SHARDS}


def test_the_definitions_say_what_they_are(bench: GraphBench) -> None:
    graph = bench.definitions().resolve_asset_graph()
    for key in (RAW, STRIDES, SHARDS, SET, INDEX):
        node = graph.get(key)
        assert node.metadata["model"] == kit.HASH["model"] and node.tags["embed/pipeline"] == "p"
        assert node.is_materializable and node.description
    assert graph.get(RAW).metadata["source"] == {name: str(path) for name, path in bench.sources.items()}
    assert graph.get(STRIDES).metadata["strides"] == {"a": "3 by stride", "b": "2 by stride"}


@pytest.mark.parametrize(
    ("key", "config", "rows"), [(RAW, {"sample_rows": 3}, 3), (RAW, {"force": True}, 20)]
)  # fmt: skip
def test_the_launch_dialog_configures_a_snapshot(
    bench: GraphBench, key: dg.AssetKey, config: dict[str, Any], rows: int
) -> None:
    bench.prepare()
    run = bench.run(key, "a", config={"p__raw_reviews": {"config": config}})
    data = bench.made(run)["a"]
    assert (data["dagster/partition_row_count"], data["adopted"]) == (rows, False)


def test_the_launch_dialog_configures_the_shards(bench: GraphBench) -> None:
    bench.all()
    run = bench.run(SHARDS, "a-00001", config={"p__embedding_shards": {"config": {"force": True, "max_attempts": 1}}})
    assert bench.made(run)["a-00001"]["adopted"] is False


def test_a_check_named_in_fail_on_fails_the_run(bench: GraphBench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.more = {"fail_on": ["same_embedding_space"]}
    bench.prepare()
    assert bench.embed().success
    monkeypatch.setattr("embed_assets.checks.shard.MIN_COSINE", 1.1)
    run = bench.run(SHARDS, "a-00001")
    assert "a-00001: check same_embedding_space failed" in bench.failure(run).description
    assert bench.made(run)["a-00001"]["adopted"], "it is recorded all the same"
    bench.more = {}
    assert bench.run(SHARDS, "a-00001").success
