"""What Dagster shows as stale after a change, and what it does not."""

import hashlib
from pathlib import Path

import dagster as dg
import pytest

from tests.kits import pipelines as kit
from tests.kits.graph_bench import INDEX, RAW, SET, SHARDS, STRIDES, GraphBench

pytestmark = pytest.mark.slow


def test_the_version_tags_are_those_that_dagster_writes_itself(bench: GraphBench, tmp_path: Path) -> None:
    """The same graph as plain assets, whose tags Dagster makes, in an instance of its own."""
    bench.prepare()
    bench.embed()
    definitions = bench.definitions().resolve_asset_graph()
    by_dataset = definitions.get(RAW).partitions_def
    by_stride = definitions.get(STRIDES).partitions_def
    mapping = dg.StaticPartitionMapping({name: bench.partitions(name) for name in "ab"})

    @dg.asset(key=RAW, partitions_def=by_dataset, code_version="r")
    def raw() -> dg.MaterializeResult:  # type: ignore[type-arg]
        return dg.MaterializeResult(data_version=dg.DataVersion("v1"))

    @dg.asset(
        key=STRIDES, partitions_def=by_stride, code_version="s", deps=[dg.AssetDep(RAW, partition_mapping=mapping)]
    )
    def strides() -> dg.MaterializeResult:  # type: ignore[type-arg]
        return dg.MaterializeResult(data_version=dg.DataVersion("v2"))

    @dg.asset(key=SHARDS, partitions_def=by_stride, code_version="e", deps=[STRIDES])
    def shards() -> dg.MaterializeResult:  # type: ignore[type-arg]
        return dg.MaterializeResult(data_version=dg.DataVersion("v3"))

    (tmp_path / "toy").mkdir()
    with dg.DagsterInstance.ephemeral() as instance:
        for asset, partition in [(raw, "a"), (strides, "a-00001"), (shards, "a-00001")]:
            assert dg.materialize(
                [raw, strides, shards], selection=[asset], partition_key=partition, instance=instance
            ).success
        toy = GraphBench(tmp_path / "toy", instance)
        for key, partition in [(RAW, "a"), (STRIDES, "a-00001"), (SHARDS, "a-00001")]:
            ours, theirs = bench.tags(key, partition), toy.tags(key, partition)
            assert ours.keys() == theirs.keys()
            for which, tags in ((bench, ours), (toy, theirs)):
                for parent, at in ((RAW, "a"), (STRIDES, "a-00001")):
                    name = parent.to_user_string()
                    if f"dagster/input_data_version/{name}" in tags:
                        version = which.tags(parent, at)["dagster/data_version"]
                        read = hashlib.sha256(version.encode()).hexdigest()
                        assert tags[f"dagster/input_data_version/{name}"] == read
                        assert tags[f"dagster/input_event_pointer/{name}"] == str(which.latest(parent, at).storage_id)
                assert tags["dagster/data_version_is_user_provided"] == "true"
            graph = bench.definitions().resolve_asset_graph()
            assert ours["dagster/code_version"] == graph.get(key).code_version


def test_fresh_after_the_whole_path(bench: GraphBench) -> None:
    bench.all()
    for key in (RAW, SET, INDEX):
        assert bench.stale(key, ["a", "b"]) == {}
    for key in (STRIDES, SHARDS):
        assert bench.stale(key, bench.partitions()) == {}


def test_a_changed_source_makes_only_its_own_dataset_stale(bench: GraphBench) -> None:
    bench.all()
    kit.write_jsonl(bench.sources["a"], kit.texts(21))
    assert bench.run(RAW, "a", "b").success
    assert set(bench.stale(STRIDES, bench.partitions())) == set(bench.strides_of("a"))
    assert bench.stale(SHARDS, bench.partitions()) == {}, "of partitions Dagster tells the next step only"
    assert bench.run(STRIDES, bench.partitions()[0], bench.partitions()[-1]).success
    assert bench.stale(STRIDES, bench.partitions()) == {}
    assert set(bench.stale(SHARDS, bench.partitions())) == {"a-00002"}, "where the new row is"
    run = bench.embed()
    adopted = {key: data["adopted"] for key, data in bench.made(run).items()}
    assert adopted == {key: key != "a-00002" for key in bench.partitions()}
    assert bench.stale(SHARDS, bench.partitions()) == {}
    assert set(bench.stale(INDEX, ["a", "b"])) == {"a"}
    index = bench.run(INDEX, "a")
    assert bench.made(index)["a"] | {"dagster/partition_row_count": 21, "adopted": False} == bench.made(index)["a"]
    assert bench.stale(INDEX, ["a", "b"]) == {}


def test_a_new_base_leaves_the_strides_whose_rows_are_the_same(bench: GraphBench) -> None:
    """3 of 200 changed: the other 197 keep their data versions and their shards, and the set is theirs too."""
    bench.strides = {"a": 200, "b": 1}
    texts = kit.texts(400)
    kit.write_jsonl(bench.sources["a"], texts)
    assert bench.update(datasets=["a"]).success
    before = {key: bench.tags(SHARDS, key)["dagster/data_version"] for key in bench.partitions("a")}
    for at in (7, 100, 399):
        texts[at] = {**texts[at], "text": f"another text {at}"}
    kit.write_jsonl(bench.sources["a"], texts)
    bench.run(RAW, "a")
    assert bench.run(STRIDES, "a-00000", "a-00199").success and bench.run(STRIDES, "a-delta").success
    due = {"a-00007", "a-00100", "a-00199"}
    assert set(bench.stale(SHARDS, bench.partitions("a"))) == due
    assert "3 of 200 embedding_shards of a are not committed" in bench.failure(bench.run(SET, "a")).description
    run = bench.update(datasets=["a"])
    assert run.success and bench.stale(SHARDS, bench.partitions("a")) == {}
    after = {key: bench.tags(SHARDS, key)["dagster/data_version"] for key in bench.partitions("a")}
    assert {key for key in before if before[key] != after[key]} == due


def test_another_model_makes_every_shard_stale_by_its_code_version(bench: GraphBench) -> None:
    bench.all()
    old = set(bench.shard_files("_manifest.json"))
    bench.embedding = {"pooling": "cls"}
    stale = bench.stale(SHARDS, bench.partitions())
    assert set(stale) == set(bench.partitions())
    assert all("code version" in reason for reason in stale.values()), stale
    assert bench.stale(STRIDES, bench.partitions()) == {}
    assert bench.embed().success
    assert bench.stale(SHARDS, bench.partitions()) == {}
    assert old < set(bench.shard_files("_manifest.json")), "the earlier vectors are still there, beside the new"
