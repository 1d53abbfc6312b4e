"""From pipelines to Dagster definitions. A second pipeline is a second YAML file."""

from collections.abc import Iterable
from typing import Any

import dagster as dg

from embed_assets.graph.common import EMBEDDING_SHARDS, STRIDE_PARTITIONS, asset_key
from embed_assets.graph.embedding_shards import build_embedding_shards
from embed_assets.graph.partitions import PipelinePartitions
from embed_assets.graph.raw_reviews import build_raw_reviews
from embed_assets.graph.stride_partitions import build_stride_partitions
from embed_assets.graph.vector_index import build_vector_index
from embed_assets.settings import Settings
from embed_assets.spec import EmbeddingPipeline


def pipeline_assets(pipeline: EmbeddingPipeline, settings: Settings) -> list[Any]:
    """The assets of one pipeline."""
    partitions = PipelinePartitions(pipeline)
    return [
        build_raw_reviews(pipeline, partitions, settings),
        build_stride_partitions(pipeline, partitions, settings),
        *build_embedding_shards(pipeline, partitions, settings),
        build_vector_index(pipeline, partitions, settings),
    ]


def pipeline_jobs(pipeline: EmbeddingPipeline, partitions: PipelinePartitions) -> list[Any]:
    """A job to re-check committed partitions, whichever the asset."""
    per_stride = [asset_key(pipeline, name) for name in (STRIDE_PARTITIONS, EMBEDDING_SHARDS)]
    return [
        dg.define_asset_job(
            f"{pipeline.name}__check_shards",
            selection=dg.AssetSelection.checks_for_assets(*per_stride),
            partitions_def=partitions.strides,
            description="Runs the checks of committed strides and shards again; embeds nothing.",
        )
    ]


def build_definitions(pipelines: Iterable[EmbeddingPipeline], settings: Settings) -> dg.Definitions:
    """Assets, checks and jobs; no resources and no executor, so that they merge into any code location.

    The assets ask for the resources `lake` and `compute`.
    """
    pipelines = list(pipelines)
    return dg.Definitions(
        assets=[asset for pipeline in pipelines for asset in pipeline_assets(pipeline, settings)],
        jobs=[job for pipeline in pipelines for job in pipeline_jobs(pipeline, PipelinePartitions(pipeline))],
    )
