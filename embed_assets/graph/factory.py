"""From pipelines to Dagster definitions. A second pipeline is a second YAML file."""

from collections.abc import Iterable
from typing import Any

import dagster as dg

from embed_assets.graph.common import EMBEDDING_SHARDS, RAW_REVIEWS, STRIDE_PARTITIONS, VECTOR_INDEX, asset_key
from embed_assets.graph.embedding_shards import build_embedding_shards
from embed_assets.graph.partitions import PipelinePartitions
from embed_assets.graph.raw_reviews import build_raw_reviews
from embed_assets.graph.stride_partitions import build_stride_partitions
from embed_assets.graph.vector_index import build_vector_index
from embed_assets.settings import Settings
from embed_assets.spec import EmbeddingPipeline
from resources.dagster import ComputeResource, LakeResource
from resources.local.resource import LocalComputeResource
from resources.skypilot.resource import SkyPilotResource
from resources.skypilot.settings import SkyPilotSettings


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


def compute_resource(settings: Settings) -> ComputeResource:
    """The backend that the deployment chose."""
    if settings.compute == "skypilot":
        chosen = SkyPilotSettings().model_dump()
        return SkyPilotResource(**chosen, worker_python=settings.worker_python)
    return LocalComputeResource(
        worker_python=settings.worker_python,
        workers=settings.local_workers,
        start_seconds=settings.local_start_seconds,
        load_seconds=settings.local_load_seconds,
    )


def build_definitions(
    pipelines: Iterable[EmbeddingPipeline], settings: Settings, compute: ComputeResource | None = None
) -> dg.Definitions:
    """All definitions of a deployment."""
    pipelines = list(pipelines)
    return dg.Definitions(
        assets=[asset for pipeline in pipelines for asset in pipeline_assets(pipeline, settings)],
        jobs=[job for pipeline in pipelines for job in pipeline_jobs(pipeline, PipelinePartitions(pipeline))],
        resources={"lake": LakeResource(root=settings.lake), "compute": compute or compute_resource(settings)},
        # A process a partition does not scale to hundreds of GPUs: the run's own process drives them all.
        executor=dg.in_process_executor,
    )


__all__ = ["EMBEDDING_SHARDS", "RAW_REVIEWS", "STRIDE_PARTITIONS", "VECTOR_INDEX", "build_definitions"]
