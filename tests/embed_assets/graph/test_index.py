"""The index, and the digest of the complete set."""

import json
from typing import Any

import dagster as dg
import pytest

from embed_assets.graph.dagster_events import PartitionRun
from embed_assets.index.table import open_table
from resources.lake import Lake
from tests.kits import pipelines as kit
from tests.kits.graph_bench import DIGEST, INDEX, SHARDS, GraphBench

pytestmark = pytest.mark.slow


def test_an_incomplete_dataset_has_no_index(bench: GraphBench) -> None:
    bench.prepare()
    assert bench.run(SHARDS, "a-00001").success
    failure = bench.failure(bench.run(INDEX, "a"))
    assert "2 of 3 embedding_shards of a are not committed: a-00000, a-00002" in failure.description
    assert not (bench.lake / "vector_index").exists()


def test_a_damaged_shard_leaves_the_old_index_in_place(bench: GraphBench) -> None:
    bench.all()
    resource = Lake(str(bench.lake))
    before = open_table(resource, kit.spec().spec_id, "a").to_arrow()
    kit.write_jsonl(bench.sources["a"], kit.texts(30))
    bench.prepare()
    assert bench.embed().success
    newest = json.loads(next(bench.lake.glob("raw_reviews/a/_latest.json")).read_text())["snapshot"]
    victim = next(bench.lake.glob(f"embedding_shards/a/*/{newest}-*/00002/part-*.parquet"))
    whole = victim.read_bytes()
    victim.unlink()
    victim.write_bytes(whole[:-1] + b"?")
    failure = bench.failure(bench.run(INDEX, "a"))
    assert "sha256 differs" in failure.description
    assert open_table(resource, kit.spec().spec_id, "a").to_arrow() == before
    victim.write_bytes(whole)
    assert bench.made(bench.run(INDEX, "a"))["a"]["dagster/row_count"] == 30


def test_a_table_that_lost_rows_is_built_anew(bench: GraphBench) -> None:
    bench.all()
    resource = Lake(str(bench.lake))
    open_table(resource, kit.spec().spec_id, "a").delete("row_id = 3")
    index = bench.run(INDEX, "a")
    assert bench.made(index)["a"] | {"dagster/row_count": 20, "adopted": False} == bench.made(index)["a"]
    assert bench.checks(index) == {"a": {"complete": True}}


def test_two_runs_that_record_the_last_two_shards_at_once_observe_the_digest(
    bench: GraphBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither has seen the other's event when it looks whether the set is complete."""
    bench.prepare()
    first, *rest = bench.partitions("a")
    committed = PartitionRun.committed

    def meanwhile(run: PartitionRun, partition: str, **about: Any) -> None:
        monkeypatch.setattr(PartitionRun, "committed", committed)
        assert bench.run(SHARDS, rest[0], rest[-1]).success
        committed(run, partition, **about)

    monkeypatch.setattr(PartitionRun, "committed", meanwhile)
    assert bench.run(SHARDS, first).success
    seen = bench.instance.fetch_observations(DIGEST, limit=9).records
    assert [record.partition_key for record in seen] == ["a"]


def test_the_digest_is_observed_once_the_set_is_complete(bench: GraphBench) -> None:
    bench.prepare()
    assert bench.run(SHARDS, "a-00000", "a-00001").success

    def observed() -> list[str | None]:
        records = bench.instance.fetch_observations(dg.AssetRecordsFilter(asset_key=DIGEST), limit=10).records
        return [record.partition_key for record in records]

    assert observed() == []
    bench.embed()
    assert sorted(filter(None, observed())) == ["a", "b"]
    bench.embed()
    assert sorted(filter(None, observed())) == ["a", "b"], "nothing new is nothing to observe"
