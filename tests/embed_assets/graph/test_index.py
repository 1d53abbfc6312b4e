"""The index of a complete, checked set."""

import shutil

import pyarrow as pa
import pytest

from embed_assets.estimate.indexing import IndexPlan
from embed_assets.index import build, recall
from embed_assets.index.search import published
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
    before = rows(resource)
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
    assert rows(resource) == before
    victim.write_bytes(whole)
    assert bench.made(bench.run(INDEX, "a"))["a"]["dagster/partition_row_count"] == 30


def test_a_table_that_is_gone_is_built_anew(bench: GraphBench) -> None:
    bench.all()
    shutil.rmtree(next(bench.lake.glob("vector_index/*/a.lance")))
    index = bench.run(INDEX, "a")
    assert bench.made(index)["a"] | {"dagster/partition_row_count": 20, "adopted": False} == bench.made(index)["a"]
    assert bench.checks(index) == {"a": {"complete": True, "recall": True}}


def test_a_table_that_misses_too_much_is_not_published(bench: GraphBench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Readers keep the one before; the check is red, and says what would reach it."""
    bench.all()
    before = rows(Lake(str(bench.lake)))
    kit.write_jsonl(bench.sources["a"], kit.texts(30))
    bench.prepare()
    assert bench.embed().success
    monkeypatch.setattr("embed_assets.index.build.plan_index", lambda *a, **k: IndexPlan("IVF_HNSW_SQ", 0, 0, 0))
    asked = iter([0.5, 0.5, 0.97])
    monkeypatch.setattr(recall, "recall", lambda *_: next(asked))
    monkeypatch.setattr(build, "recall", lambda *_: next(asked))
    index = bench.run(INDEX, "a")
    assert "recall@10 of a is 0.500 with IVF_HNSW_SQ" in bench.failure(index).description
    assert "readers keep the version before" in bench.failure(index).description
    assert "index: {nprobes: 50, refine_factor: 4} reaches 0.970" in bench.failure(index).description
    assert bench.checks(index)["a"]["recall"] is False
    assert rows(Lake(str(bench.lake))) == before
    monkeypatch.undo()
    assert bench.made(bench.run(INDEX, "a"))["a"]["dagster/partition_row_count"] == 30


def rows(lake: Lake) -> pa.Table:
    found = published(lake, kit.spec(), "a")
    assert found is not None
    return found.table.to_arrow().sort_by([("id", "ascending"), ("chunk", "ascending")])
