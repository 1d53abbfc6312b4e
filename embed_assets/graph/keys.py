"""What the assets of a pipeline are called."""

import dagster as dg

from embed_assets.spec import EmbeddingPipeline

RAW_REVIEWS, STRIDE_PARTITIONS = "raw_reviews", "stride_partitions"
EMBEDDING_SHARDS, EMBEDDING_SET, VECTOR_INDEX = "embedding_shards", "embedding_set", "vector_index"
ASSETS = (RAW_REVIEWS, STRIDE_PARTITIONS, EMBEDDING_SHARDS, EMBEDDING_SET, VECTOR_INDEX)


def asset_key(pipeline: EmbeddingPipeline, name: str) -> dg.AssetKey:
    """`name`: one of ASSETS."""
    return dg.AssetKey(pipeline.translation.path(pipeline.name, name))
