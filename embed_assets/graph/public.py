"""A pipeline in Python: its assets, keys and partitions, for a code location of the user's own."""

import dagster as dg

from embed_assets.graph import common
from embed_assets.graph.factory import pipeline_assets
from embed_assets.graph.partitions import PipelinePartitions
from embed_assets.settings import Settings
from embed_assets.spec.given import Given, as_pipeline


def build_assets(pipeline: Given, settings: Settings | None = None) -> list[dg.AssetsDefinition | dg.AssetSpec]:
    """The assets of a pipeline with their checks. They ask for the resources `lake` and `compute`."""
    return list(pipeline_assets(as_pipeline(pipeline), settings or Settings()))


def specs(pipeline: Given, settings: Settings | None = None) -> list[dg.AssetSpec]:
    """The assets of a pipeline as external ones, for another code location than the one that makes them."""
    found: list[dg.AssetSpec] = []
    for asset in build_assets(pipeline, settings):
        found += [asset] if isinstance(asset, dg.AssetSpec) else list(asset.specs)
    return [spec.replace_attributes(skippable=False, code_version=None) for spec in found]


def asset_keys(pipeline: Given) -> dict[str, dg.AssetKey]:
    """Keys of a pipeline's assets by their names: `asset_keys(p)["embedding_shards"]`."""
    named = (common.RAW_REVIEWS, common.STRIDE_PARTITIONS, common.EMBEDDING_SHARDS, common.VECTOR_INDEX)
    return {name: common.asset_key(as_pipeline(pipeline), name) for name in named}


def partitions_of(pipeline: Given) -> PipelinePartitions:
    """Dagster's partitions of a pipeline, and how they map: `datasets`, `strides`, `strides_to_dataset`, …"""
    return PipelinePartitions(as_pipeline(pipeline))
