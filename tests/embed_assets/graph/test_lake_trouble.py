"""A lake that is away, refuses or is full."""

import os
from typing import Any

import pytest

from embed_assets.graph.ready import current_snapshot
from embed_worker.lake.errors import StoreAway, StoreUnavailable
from embed_worker.lake.integrity import restore_space
from tests.kits import pipelines as kit
from tests.kits.graph_bench import RAW, GraphBench

pytestmark = pytest.mark.slow


def test_a_lake_that_cannot_be_written_is_said_clearly(bench: GraphBench) -> None:
    bench.lake.write_text("a file where the lake should be")
    assert "EMBED_LAKE" in bench.failure(bench.run(RAW, "a", "b")).description


def test_a_lake_that_is_away_while_a_partition_is_recorded_is_waited_for(
    bench: GraphBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.prepare()
    answers = iter([StoreUnavailable("s3://lake: the store cannot be reached")])

    def restore(*arguments: Any) -> str | None:
        if (error := next(answers, None)) is not None:
            raise error
        return restore_space(*arguments)

    monkeypatch.setattr("embed_assets.checks.proof.restore_space", restore)
    run = bench.embed()
    assert run.success, bench.log(run)
    assert set(bench.made(run)) == set(bench.partitions())
    assert bench.log(run).count("the lake does not answer") == bench.log(run).count("the lake answers again") == 1


def test_a_lake_that_is_away_when_a_run_begins_is_waited_for(
    bench: GraphBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.prepare()
    answers = iter([StoreAway("s3://lake: the store cannot be reached")])

    def snapshot(*arguments: Any) -> Any:
        if (error := next(answers, None)) is not None:
            raise error
        return current_snapshot(*arguments)

    monkeypatch.setattr("embed_assets.graph.assets.shard_jobs.current_snapshot", snapshot)
    run = bench.embed()
    assert run.success, bench.log(run)
    assert set(bench.made(run)) == set(bench.partitions())
    assert bench.log(run).count("the lake does not answer") == 1


def test_a_lake_that_stays_away_when_a_run_begins_fails_its_partitions_clearly(
    bench: GraphBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.prepare()
    asked = []

    def snapshot(lake: Any, dataset: Any) -> Any:
        asked.append(dataset.name)
        raise StoreAway("s3://lake: the store cannot be reached")

    monkeypatch.setattr("embed_assets.graph.assets.shard_jobs.current_snapshot", snapshot)
    monkeypatch.setattr("embed_assets.graph.assets.shard_jobs.PATIENCE", 0.0)
    run = bench.embed()
    assert "the store cannot be reached" in bench.failure(run).description
    assert sorted(asked) == ["a", "a", "b", "b"]  # of a dataset's base and of its delta, not once a partition
    assert bench.made(run) == {}


def test_a_full_disk_is_said_clearly(bench: GraphBench, monkeypatch: pytest.MonkeyPatch) -> None:
    mounted = bench.folder / "small"
    mounted.mkdir()
    if os.geteuid() != 0 or os.system(f"mount -t tmpfs -o size=300k tmpfs {mounted} 2>/dev/null") != 0:  # noqa: S605
        pytest.skip("cannot mount a small disk here")
    try:
        kit.write_jsonl(bench.sources["a"], [{"text": os.urandom(800).hex()} for _ in range(2000)])
        bench.lake = mounted / "lake"
        run = bench.run(RAW, "a", "b")
        assert "no space left" in bench.failure(run).description
        assert "a" not in bench.made(run)
        assert [path for path in kit.manifests(bench.lake) if "/a/" in path] == []
    finally:
        os.system(f"umount {mounted}")  # noqa: S605
