"""The assets in Dagster: one event a partition, with figures and checks of its own."""

import json
import sys
from pathlib import Path

import orjson
import pyarrow.parquet as pq
import pytest

from embed_assets.checks.shard import SHARD_CHECKS
from embed_assets.checks.source import RAW_CHECKS
from embed_assets.checks.strides import STRIDE_CHECKS
from embed_assets.index.search import published
from embed_worker.lake.seal import sealed
from resources.lake import Lake
from tests.kits import pipelines as kit
from tests.kits.graph_bench import CHECK, INDEX, RAW, SHARDS, STRIDES, GraphBench

pytestmark = pytest.mark.slow


def test_the_whole_path(bench: GraphBench) -> None:
    bench.python = sys.executable
    raw = bench.run(RAW, "a", "b-delta")
    counted = {name: data["dagster/partition_row_count"] for name, data in bench.made(raw).items()}
    assert counted == {"a": 20, "a-delta": 0, "b": 20, "b-delta": 0}
    assert bench.checks(raw) == {name: dict.fromkeys(RAW_CHECKS, True) for name in bench.snapshots()}
    strides = bench.run(STRIDES, bench.partitions()[0], bench.partitions()[-1])
    rows = {key: data["dagster/partition_row_count"] for key, data in bench.made(strides).items()}
    of_base = {"a-00000": 7, "a-00001": 7, "a-00002": 6, "b-00000": 10, "b-00001": 10}
    assert rows == of_base | {"a-delta": 0, "b-delta": 0}
    assert bench.checks(strides) == {key: dict.fromkeys(STRIDE_CHECKS, True) for key in bench.partitions()}
    shards = bench.embed()
    made = bench.made(shards)
    assert {key: data["dagster/partition_row_count"] for key, data in made.items()} == rows
    assert bench.checks(shards) == {key: dict.fromkeys(SHARD_CHECKS, True) for key in bench.partitions()}
    pids = {made[key]["job_worker_pid"] for key in bench.strides_of()}
    assert len(pids) == 1, "loaded once"
    assert bench.instance.get_materialized_partitions(SHARDS) == set(bench.partitions())
    for name in "ab":
        index = bench.run(INDEX, name)
        assert bench.made(index)[name]["dagster/partition_row_count"] == 20
        assert bench.checks(index) == {name: {"complete": True, "recall": True}}
    found = published(Lake(str(bench.lake)), kit.spec(), "a")
    assert found is not None
    passages = {row["passage"] for row in found.table.to_arrow().to_pylist()}
    assert passages == {record["text"] for record in kit.texts(20)}
    assert "_dagster" not in json.dumps([str(path) for path in bench.lake.rglob("*")])


def test_each_partition_has_the_figures_of_its_own(bench: GraphBench) -> None:
    bench.prepare()
    made = bench.made(bench.embed())
    assert made.keys() == set(bench.partitions())
    for key, data in ((key, made[key]) for key in bench.strides_of()):
        manifest = json.loads(Path(data["manifest"]).read_text())
        assert data["dagster/partition_row_count"] == manifest["rows_embedded"]
        assert (data["tokens"], data["windows"]) == (manifest["tokens"], manifest["windows"])
        assert data["input_digest"] == manifest["input"]["digest"]
        assert (data["starts"], data["jobs_in_this_run"], data["adopted"]) == (1, 1, False)
        assert (data["dimension"], data["dtype"], data["spec_id"]) == (32, "float32", kit.spec().spec_id)
        assert Path(data["dagster/uri"]) == Path(data["manifest"]).parent
        assert [c.name for c in data["dagster/column_schema"].columns] == pq.read_schema(
            next(Path(data["dagster/uri"]).glob("part-*.parquet"))
        ).names
        lineage = data["dagster/column_lineage"].deps_by_column["embedding"]
        assert [(dep.asset_key, dep.column_name) for dep in lineage] == [(STRIDES, "text")]
        assert manifest["shard"]["stride"] == int(key[-5:])


def test_checks_stand_on_the_materialization_of_their_partition(bench: GraphBench) -> None:
    bench.prepare()
    run = bench.embed()
    for event in bench.events(run, CHECK):
        evaluation = event.asset_check_evaluation_data
        target = evaluation.target_materialization_data
        assert target.storage_id == bench.latest(SHARDS, evaluation.partition).storage_id
        assert target.run_id == run.run_id


def test_a_failing_check_is_seen_on_its_partition_and_fails_no_run(bench: GraphBench) -> None:
    bench.prepare()
    bench.embed()
    space = next(bench.lake.glob("embedding_spaces/*.json"))
    value = orjson.loads(space.read_bytes())
    del value["digest"]
    value["canaries"]["vectors"].reverse()  # sound in itself, and of another kind than the shards
    space.write_bytes(sealed(f"embedding_spaces/{space.name}", value))
    run = bench.run(SHARDS, "a-00001")
    assert run.success
    assert bench.checks(run)["a-00001"] == {
        **dict.fromkeys(SHARD_CHECKS, True),
        "same_embedding_space": False,
    }
    assert "a-00001: check same_embedding_space failed" in bench.log(run)
