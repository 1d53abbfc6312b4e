"""The index of a complete, checked set."""

import pytest

from embed_assets.index.table import open_table
from resources.lake import Lake
from tests.kits import pipelines as kit
from tests.kits.graph_bench import INDEX, SHARDS, GraphBench

pytestmark = pytest.mark.slow


def test_without_a_set_there_is_no_index(bench: GraphBench) -> None:
    bench.prepare()
    assert bench.run(SHARDS, "a-00001").success
    assert "embedding_set of a is not in" in bench.failure(bench.run(INDEX, "a")).description
    assert not (bench.lake / "vector_index").exists()


def test_a_shard_that_was_made_anew_since_is_not_indexed_under_the_old_set(bench: GraphBench) -> None:
    bench.all()
    next(bench.lake.glob("embedding_shards/a/*/*/00002/*/_manifest.json")).unlink()
    assert (
        "a-00002 is not committed any more since embedding_set was made"
        in bench.failure(bench.run(INDEX, "a")).description
    )


def test_a_damaged_shard_leaves_the_old_index_in_place(bench: GraphBench) -> None:
    bench.all()
    resource = Lake(str(bench.lake))
    before = open_table(resource, kit.spec().spec_id, "a").to_arrow()
    old = set(bench.shard_files("part-*.parquet"))
    kit.write_jsonl(bench.sources["a"], kit.texts(30))
    bench.prepare()
    assert bench.embed().success
    victim = next(path for path in bench.shard_files("part-*.parquet") if path not in old)
    whole = victim.read_bytes()
    victim.unlink()
    victim.write_bytes(whole[:-1] + b"?")
    failure = bench.failure(bench.run(INDEX, "a"))
    assert "sha256 differs" in failure.description
    assert open_table(resource, kit.spec().spec_id, "a").to_arrow() == before
    victim.write_bytes(whole)
    assert bench.made(bench.run(INDEX, "a"))["a"]["dagster/partition_row_count"] == 30


def test_a_table_that_lost_rows_is_built_anew(bench: GraphBench) -> None:
    bench.all()
    resource = Lake(str(bench.lake))
    open_table(resource, kit.spec().spec_id, "a").delete("id = '3'")
    index = bench.run(INDEX, "a")
    assert bench.made(index)["a"] | {"dagster/partition_row_count": 20, "adopted": False} == bench.made(index)["a"]
    assert bench.checks(index) == {"a": {"complete": True}}
