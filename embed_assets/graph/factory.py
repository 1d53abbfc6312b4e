"""From pipelines to Dagster definitions. A second pipeline is a second YAML file."""

from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import dagster as dg

from embed_assets.graph.assets.embedding_set import build_embedding_set
from embed_assets.graph.assets.embedding_shards import build_embedding_shards
from embed_assets.graph.assets.raw_reviews import build_raw_reviews
from embed_assets.graph.assets.stride_partitions import build_stride_partitions
from embed_assets.graph.assets.vector_index import build_vector_index
from embed_assets.graph.code_reference import leading_to
from embed_assets.graph.dagster_events import GraphOf, asset_graph
from embed_assets.graph.jobs.automation import build_schedules, build_sensors
from embed_assets.graph.jobs.check import build_check_job
from embed_assets.graph.jobs.update import build_update_job
from embed_assets.graph.partitions import PipelinePartitions
from embed_assets.settings import Settings
from embed_assets.spec import EmbeddingPipeline


def build_assets(
    pipeline: EmbeddingPipeline, settings: Settings, file: Path | None = None
) -> list[dg.AssetsDefinition]:
    """The assets of one pipeline, each with its checks. They ask for the resources `lake` and `compute`."""
    partitions = PipelinePartitions(pipeline)
    assets = [
        build_raw_reviews(pipeline, partitions, settings),
        build_stride_partitions(pipeline, partitions, settings),
        build_embedding_shards(pipeline, partitions, settings, _graph_of(pipeline, settings)),
        build_embedding_set(pipeline, partitions, settings),
        build_vector_index(pipeline, partitions, settings),
    ]
    return leading_to(file, assets) if file else assets


def build_jobs(pipeline: EmbeddingPipeline, settings: Settings) -> list[dg.JobDefinition]:
    """`{pipeline}__update` makes what is due, `{pipeline}__check` checks what is there."""
    partitions = PipelinePartitions(pipeline)

    graph_of = _graph_of(pipeline, settings)
    return [
        build_update_job(pipeline, partitions, settings, graph_of),
        build_check_job(pipeline, partitions, settings, graph_of),
    ]


def build_definitions(
    pipelines: Iterable[EmbeddingPipeline], settings: Settings | None = None, files: Mapping[str, Path] | None = None
) -> dg.Definitions:
    """Assets, checks, jobs and what launches them; no resources and no executor, so that they merge into any code
    location.

    `files`: of the pipelines by their names; the UI leads to them.
    """
    pipelines, settings, files = list(pipelines), settings or Settings(), files or {}
    jobs = {pipeline.name: build_jobs(pipeline, settings) for pipeline in pipelines}
    return dg.Definitions(
        assets=[asset for one in pipelines for asset in build_assets(one, settings, files.get(one.name))],
        jobs=[job for of in jobs.values() for job in of],
        schedules=[one for pipeline in pipelines for one in build_schedules(pipeline, jobs[pipeline.name][0])],
        sensors=[one for pipeline in pipelines for one in build_sensors(pipeline, jobs[pipeline.name][0])],
    )


def _graph_of(pipeline: EmbeddingPipeline, settings: Settings) -> GraphOf:
    @cache
    def own() -> Any:
        asked = dict.fromkeys(("lake", "compute"), dg.ResourceDefinition.none_resource())
        return dg.Definitions(assets=build_assets(pipeline, settings), resources=asked).resolve_asset_graph()

    return asset_graph(own)
