"""What a job over a pipeline's assets works on."""

from collections.abc import Iterable, Sequence

import dagster as dg

from embed_assets.checks.fresh import raw_checks
from embed_assets.checks.shard import SHARD_CHECKS
from embed_assets.checks.strides import STRIDE_CHECKS
from embed_assets.graph.assets.vector_index import INDEX_CHECKS
from embed_assets.graph.keys import EMBEDDING_SET, EMBEDDING_SHARDS, RAW_REVIEWS, STRIDE_PARTITIONS, VECTOR_INDEX
from embed_assets.spec import EmbeddingPipeline


def checks_of(pipeline: EmbeddingPipeline, asset: str) -> list[str]:
    """Names of an asset's checks."""
    found: dict[str, Iterable[str]] = {
        RAW_REVIEWS: raw_checks(pipeline),
        STRIDE_PARTITIONS: STRIDE_CHECKS,
        EMBEDDING_SHARDS: SHARD_CHECKS,
        EMBEDDING_SET: (),
        VECTOR_INDEX: INDEX_CHECKS,
    }
    return list(found[asset])


def chosen_datasets(pipeline: EmbeddingPipeline, names: Sequence[str]) -> list[str]:
    """These datasets in the pipeline's order, all without any. Raises `dg.Failure` for one that the pipeline lacks."""
    known = [dataset.name for dataset in pipeline.datasets]
    if unknown := [name for name in names if name not in known]:
        raise dg.Failure(
            f"datasets: {pipeline.name} has no {unknown[0]!r}; it has {', '.join(known)}", allow_retries=False
        )
    return [name for name in known if not names or name in names]
