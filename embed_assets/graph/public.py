"""A pipeline in Python: its assets, keys and partitions, for a code location of the user's own."""

from pathlib import Path

import dagster as dg

from embed_assets.graph import factory, keys
from embed_assets.graph.partitions import PipelinePartitions
from embed_assets.settings import Settings
from embed_assets.spec import EmbeddingPipeline
from embed_assets.spec.given import Given, as_pipeline


def build_assets(pipeline: Given, settings: Settings | None = None) -> list[dg.AssetsDefinition]:
    """The assets of a pipeline with their checks. They ask for the resources `lake` and `compute`."""
    file = None if isinstance(pipeline, EmbeddingPipeline) else Path(pipeline)
    return factory.build_assets(as_pipeline(pipeline), settings or Settings(), file)


def build_jobs(pipeline: Given, settings: Settings | None = None) -> list[dg.JobDefinition]:
    """`{pipeline}__update`, which takes what is due, and `{pipeline}__check`."""
    return factory.build_jobs(as_pipeline(pipeline), settings or Settings())


def specs(pipeline: Given, settings: Settings | None = None) -> list[dg.AssetSpec]:
    """The assets of a pipeline as external ones, for another code location than the one that makes them."""
    found = [spec for asset in build_assets(pipeline, settings) for spec in asset.specs]
    return [spec.replace_attributes(skippable=False, code_version=None) for spec in found]


def asset_keys(pipeline: Given) -> dict[str, dg.AssetKey]:
    """Keys of a pipeline's assets by their names: `asset_keys(p)["embedding_shards"]`."""
    return {name: keys.asset_key(as_pipeline(pipeline), name) for name in keys.ASSETS}


def partitions_of(pipeline: Given) -> PipelinePartitions:
    """Dagster's partitions of a pipeline, and how they map: `datasets`, `strides`, `strides_to_dataset`, …"""
    return PipelinePartitions(as_pipeline(pipeline))
