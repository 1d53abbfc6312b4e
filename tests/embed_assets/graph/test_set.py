"""The gate: a set is made of all shards, each with green checks in the lake, or not at all."""

import json
from typing import Any

import pytest

from embed_assets.checks.shard import SHARD_CHECKS
from embed_assets.graph.dagster_events import PartitionRun
from embed_worker.lake.sets import current_set
from resources.lake import Lake
from tests.kits import pipelines as kit
from tests.kits.graph_bench import INDEX, SET, SHARDS, GraphBench

pytestmark = pytest.mark.slow


def current(bench: GraphBench, dataset: str = "a") -> Any:
    ingest_id = bench.dataset(dataset).ingest_id
    return current_set(Lake(str(bench.lake)).store, dataset, kit.spec().spec_id, ingest_id)


def redden(bench: GraphBench, partition: str) -> None:
    """The canaries of the spec's space, changed: every shard's `same_embedding_space` is red from now on."""
    (file,) = bench.lake.glob(f"embedding_shards/{partition[:-6]}/*/*/{partition[-5:]}/*/checks.json")
    value = json.loads(file.read_text())
    del value["digest"]
    value["checks"]["dimension"] = {"passed": False, "description": "planted"}
    file.write_text(json.dumps(value))


def test_the_run_of_the_last_shard_makes_the_set(bench: GraphBench) -> None:
    bench.prepare()
    assert bench.run(SHARDS, "a-00000", "a-00001").success
    assert current(bench) is None and bench.instance.get_materialized_partitions(SET) == set()
    assert bench.run(SHARDS, "a-00002").success
    made = current(bench)
    assert (made.rows, made.count) == (20, 3)
    assert all(set(shard.checks) == set(SHARD_CHECKS) for shard in made.shards)
    assert bench.tags(SET, "a")["dagster/data_version"] == made.digest
    assert bench.stale(SET, ["a"]) == {}


def test_the_same_set_is_recorded_once_by_the_shards_and_adopted_by_its_own_press(bench: GraphBench) -> None:
    bench.prepare()
    bench.embed()
    first = bench.latest(SET, "a").storage_id
    bench.embed()
    assert bench.latest(SET, "a").storage_id == first
    run = bench.run(SET, "a")
    assert bench.made(run)["a"]["adopted"] and bench.stale(SET, ["a"]) == {}


def test_an_incomplete_set_names_what_is_missing(bench: GraphBench) -> None:
    bench.prepare()
    assert bench.run(SHARDS, "a-00001").success
    failure = bench.failure(bench.run(SET, "a"))
    assert "2 of 3 embedding_shards of a are not committed: a-00000, a-00002" in failure.description


def test_a_red_shard_keeps_the_set_before(bench: GraphBench) -> None:
    bench.all()
    before = current(bench)
    redden(bench, "a-00001")
    failure = bench.failure(bench.run(SET, "a"))
    assert "a-00001 (dimension: planted)" in failure.description
    assert current(bench) == before
    assert bench.run(SHARDS, "a-00001").success, "its checks run again, and are green"
    assert bench.run(SET, "a").success


def test_shards_that_nobody_has_checked_are_checked_by_the_sets_own_press(bench: GraphBench) -> None:
    bench.prepare()
    bench.embed()
    for file in bench.lake.rglob("checks.json"):
        file.unlink()
    for folder in bench.lake.glob("embedding_sets/*"):
        for file in folder.rglob("*.json"):
            file.unlink()
    assert bench.run(SET, "a").success
    assert len(list(bench.lake.glob("embedding_shards/a/*/*/*/*/checks.json"))) == 3
    assert current(bench).rows == 20


def test_two_runs_that_record_the_last_two_shards_at_once_make_the_set(
    bench: GraphBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither has seen the other's event when it looks whether the set is complete: the lake has both."""
    bench.prepare()
    first, *rest = bench.partitions("a")
    committed = PartitionRun.committed

    def meanwhile(run: PartitionRun, partition: str, **about: Any) -> None:
        monkeypatch.setattr(PartitionRun, "committed", committed)
        assert all(bench.run(SHARDS, one).success for one in rest)
        committed(run, partition, **about)

    monkeypatch.setattr(PartitionRun, "committed", meanwhile)
    assert bench.run(SHARDS, first).success
    assert bench.instance.get_materialized_partitions(SET) == {"a"}


def test_new_vectors_make_the_index_stale_through_the_set(bench: GraphBench) -> None:
    bench.all()
    assert bench.stale(INDEX, ["a"]) == {}
    kit.write_jsonl(bench.sources["a"], kit.texts(21))
    bench.prepare()
    bench.embed()
    assert set(bench.stale(INDEX, ["a", "b"])) == {"a"}
