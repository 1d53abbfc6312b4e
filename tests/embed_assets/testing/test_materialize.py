"""A user's test: a pipeline over a few rows, in process, and assets of their own after it."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest

from embed_assets import EmbeddingPipeline, asset_keys, partitions_of
from embed_assets.testing import assert_exact, hashed, materialize
from embed_worker.lake.spec import EmbeddingSpec
from tests.kits import ROOT
from tests.kits import pipelines as kit

pytestmark = pytest.mark.slow

MODEL: dict[str, Any] = {
    "model": "acme/large", "revision": "a" * 40, "sha256": {"model.safetensors": "0" * 64}, "pooling": "last",
    "attention": "causal", "max_tokens": 128, "overlap": 8, "output_dtype": "float16", "dimensions": 256,
    "append_token": "<|end|>", "prompts": {"document": "passage: "}, "engine": {"gpu_memory_utilization": 0.5},
}  # fmt: skip
ROWS = [{"key": f"k{i}", "text": f"text {i}", "n": i} for i in range(7)]


@pytest.fixture
def pipeline() -> EmbeddingPipeline:
    """Of a model and sources that are not here."""
    options = {"storage_options": {"anon": True}, "id": "{key}", "where": {"n": [0, 1, 2, 3, 4, 5]}}
    datasets = [
        kit.dataset("s3://elsewhere/a.parquet", name="a", strides=3, **options),
        kit.dataset("s3://elsewhere/b.csv.gz", name="b", strides=2, **options),
    ]
    return kit.pipeline(datasets, embedding=EmbeddingSpec(**MODEL))


def test_only_what_belongs_to_the_weights_is_left_out(pipeline: EmbeddingPipeline) -> None:
    spec = hashed(pipeline).embedding
    assert spec == EmbeddingSpec(
        model="embed-worker/hash", pooling="last", attention="causal", max_tokens=128, overlap=8,
        output_dtype="float16", prompts=pipeline.embedding.prompts,
    )  # fmt: skip


def test_a_pipeline_over_a_few_rows(pipeline: EmbeddingPipeline) -> None:
    made = materialize(pipeline, {"a": [*ROWS, {"key": "blank", "text": " ", "n": 0}], "b": ROWS[:2]})
    assert made.success
    assert_exact(made.lake, made.pipeline)
    assert sorted(made.scan("a").collect()["id"]) == ["k0", "k1", "k2", "k3", "k4", "k5"]
    assert made.scan("b").collect_schema()["embedding"] == pl.Array(pl.Float16, 32)
    assert set(made.checks.values()) == {True} and made.checks["p/raw_reviews a non_empty"]
    with pytest.raises(ValueError, match="there are the datasets a, b; say which"):
        made.scan()


def test_equal_rows_give_equal_vectors(pipeline: EmbeddingPipeline) -> None:
    one, two = (materialize(pipeline, {"a": ROWS}).scan().collect() for _ in range(2))
    assert one.equals(two)


def test_datasets_without_rows_are_left_alone(pipeline: EmbeddingPipeline) -> None:
    made = materialize(pipeline, {"b": ROWS})
    assert made.instance.get_materialized_partitions(asset_keys(pipeline)["embedding_shards"]) == {
        "b-00000",
        "b-00001",
        "b-delta",
    }
    assert_exact(made.lake, made.pipeline, "b")
    with pytest.raises(AssertionError, match="a: no snapshot is committed"):
        assert_exact(made.lake, made.pipeline)


def test_the_tests_own_assets_come_after(pipeline: EmbeddingPipeline) -> None:
    keys, partitions = asset_keys(pipeline), partitions_of(pipeline)

    @dg.asset(
        ins={"vectors": dg.AssetIn(keys["embedding_shards"], input_manager_key="embeddings")},
        partitions_def=partitions.strides,
    )
    def sizes(vectors: pl.LazyFrame) -> int:
        return vectors.collect().height

    @dg.asset
    def total(sizes: dict[str, int]) -> int:
        return sum(sizes.values())

    made = materialize(pipeline, {"a": ROWS, "b": ROWS}, assets=[total, sizes])
    assert made.value("sizes", "a-00001") == 2
    assert made.value("total") == 12


def test_the_index_where_it_is_asked_for(pipeline: EmbeddingPipeline) -> None:
    key = asset_keys(pipeline)["vector_index"]
    without = materialize(pipeline, {"a": ROWS})
    assert not without.instance.get_materialized_partitions(key)
    made = materialize(pipeline, {"a": ROWS}, index=True)
    assert made.instance.get_materialized_partitions(key) == {"a"}


def test_a_failure_is_raised_or_told(pipeline: EmbeddingPipeline, tmp_path: Path) -> None:
    with pytest.raises(dg.Failure, match="all 1 records are unusable"):
        materialize(pipeline, {"a": [{"key": "k", "text": "", "n": 0}]}, folder=tmp_path / "one")
    made = materialize(
        pipeline, {"a": [{"key": "k", "text": "", "n": 0}]}, folder=tmp_path / "two", raise_on_error=False
    )
    assert not made.success and len(made.runs) == 1


def test_rows_must_belong_somewhere(pipeline: EmbeddingPipeline) -> None:
    with pytest.raises(ValueError, match=r"p has the datasets a, b; give rows=\{'a': \[…\]\}"):
        materialize(pipeline, ROWS)
    with pytest.raises(ValueError, match="rows of c: p has the datasets a, b"):
        materialize(pipeline, {"c": ROWS})


SCRIPT = """
import sys
import embed_assets.testing
print({'polars', 'tokenizers', 'lancedb', 'vllm'} & set(sys.modules))
from tests.kits import pipelines as kit
made = embed_assets.testing.materialize(kit.pipeline([kit.dataset("nowhere", strides=1)]), [{"text": "a"}])
print(made.lake.root)
"""


def test_importing_it_brings_nothing_heavy_and_the_temporary_lake_goes_with_the_process() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True, cwd=ROOT)
    heavy, root = done.stdout.splitlines()
    assert heavy == "set()" and "embed-testing-" in root and not Path(root).exists()
