"""What is committed is adopted; what is damaged is made anew, and nothing else."""

import pytest

from embed_assets.checks.shard import SHARD_CHECKS
from embed_assets.upkeep.verify import verify_lake
from embed_worker.lake.store import Store
from tests.kits.graph_bench import INDEX, RAW, SHARDS, STRIDES, GraphBench

pytestmark = pytest.mark.slow


def test_what_is_committed_is_adopted_with_its_checks_and_nothing_is_embedded(bench: GraphBench) -> None:
    bench.all()
    files = {path: path.stat().st_mtime_ns for path in bench.lake.rglob("*.*") if path.is_file()}
    versions = {key: bench.tags(SHARDS, key)["dagster/data_version"] for key in bench.partitions()}
    bench.python = "/nowhere/python"  # any attempt to embed would fail
    bench.prepare()
    run = bench.embed()
    assert run.success
    assert {key: data["adopted"] for key, data in bench.made(run).items()} == dict.fromkeys(bench.partitions(), True)
    assert bench.checks(run) == {key: dict.fromkeys(SHARD_CHECKS, True) for key in bench.partitions()}
    assert {key: bench.tags(SHARDS, key)["dagster/data_version"] for key in bench.partitions()} == versions
    assert bench.log(run).count("committed already, adopted") == 1  # a line, not one a partition
    index = bench.run(INDEX, "a")
    assert bench.made(index)["a"]["adopted"] is True
    after = {path: path.stat().st_mtime_ns for path in bench.lake.rglob("*.*") if path.is_file()}
    assert after == files, "a no-op wrote to the lake"
    assert bench.stale(SHARDS, bench.partitions()) == {}


@pytest.mark.parametrize("damage", ["changed", "gone", "manifest"])
def test_a_damaged_shard_is_repaired_and_no_other_touched(bench: GraphBench, damage: str) -> None:
    bench.prepare()
    bench.embed()
    whole = {path: path.read_bytes() for path in bench.shard_files("part-*.parquet")}
    version = bench.tags(SHARDS, "a-00001")["dagster/data_version"]
    victim = next(path for path in whole if path.parts[-3] == "00001" and "/a/" in str(path))
    if damage == "manifest":
        (victim.parent / "_manifest.json").write_text('{"format": 1}')
    else:
        victim.unlink()
        if damage == "changed":
            victim.write_bytes(whole[victim][:-9] + b"corrupted")
    run = bench.embed()
    assert run.success
    adopted = {key: data["adopted"] for key, data in bench.made(run).items()}
    assert adopted == {**dict.fromkeys(bench.partitions(), True), "a-00001": False}
    assert bench.checks(run)["a-00001"] == dict.fromkeys(SHARD_CHECKS, True)
    found = {path: path.read_bytes() for path in bench.shard_files("part-*.parquet")}
    assert {path.parent: data for path, data in found.items()} == {path.parent: data for path, data in whole.items()}
    assert len(found) == len(whole), "the damaged file is swept; the new one has a name of its own"
    assert bench.tags(SHARDS, "a-00001")["dagster/data_version"] == version
    assert list(victim.parent.glob("_retired-*.json")), "the manifest is retired, not lost"


@pytest.mark.parametrize("which", ["raw_reviews", "stride_partitions"])
@pytest.mark.parametrize("damage", ["part", "manifest"])
def test_damaged_rows_are_written_anew(bench: GraphBench, which: str, damage: str) -> None:
    bench.prepare()
    key, partition = (RAW, "a") if which == "raw_reviews" else (STRIDES, "a-00001")
    version = bench.tags(key, partition)["dagster/data_version"]
    if which == "stride_partitions" and damage == "part":
        bench.break_input(partition)
    else:
        pattern = {"raw_reviews": "*/snapshots/*.json", "stride_partitions": "*/*/*.json"}[which]
        (path,) = (bench.lake / which / "a").glob("*/parts/*.parquet" if damage == "part" else pattern)
        path.unlink()
        path.write_bytes(b"damage" if damage == "part" else b"{}")
    run = bench.run(key, partition)
    assert run.success, bench.log(run)
    assert bench.made(run)[partition]["adopted"] is False
    assert all(bench.checks(run)[partition].values())
    assert bench.tags(key, partition)["dagster/data_version"] == version
    assert verify_lake(Store(str(bench.lake))).damages == []


def test_a_changed_stride_file_fails_before_any_embedding(bench: GraphBench) -> None:
    bench.prepare()
    bench.break_input("a-00001")
    run = bench.embed()
    failure = bench.failure(run)
    assert set(bench.made(run)) == set(bench.partitions()) - {"a-00001"}
    assert "Re-materialize stride_partitions" in failure.description
    assert "attempts: 1" in failure.description
    assert not [p for p in bench.shard_files("checkpoints/*/*.parquet") if p.parts[-5] == "00001" and "/a/" in str(p)]
    bench.prepare()
    assert bench.embed().success
