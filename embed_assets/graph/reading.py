"""Vectors as the input of an asset of the user's own."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import dagster as dg

from embed_assets.graph.keys import EMBEDDING_SET, EMBEDDING_SHARDS, VECTOR_INDEX, asset_key
from embed_assets.graph.partitions import PipelinePartitions
from embed_assets.reading.lake import Lake
from embed_assets.spec import EmbeddingPipeline
from embed_assets.spec.given import Given, as_pipeline
from embed_worker.extras import MissingExtra, need
from embed_worker.lake.errors import LakeError, NotReady

if TYPE_CHECKING:
    import polars as pl

WITH_VECTORS = (EMBEDDING_SHARDS, EMBEDDING_SET, VECTOR_INDEX)
"""Assets whose partitions say which vectors are meant."""
PIPELINE = "pipeline"
"""Metadata of an `AssetIn`: the pipeline's name, where the asset has a key of the user's choice."""


class EmbeddingsIOManager(dg.IOManager):
    """Loads the vectors of an upstream asset as a lazy Polars frame; stores nothing.

    The input's partitions say which: a partition of `embedding_shards`, a dataset, or everything. The frame has the
    columns of `Lake.scan`, and `dataset` before them.
    """

    def __init__(self, lake: Lake | str, pipelines: Iterable[Given]) -> None:
        self._lake = Lake(lake) if isinstance(lake, str) else lake
        self._pipelines = [as_pipeline(pipeline) for pipeline in pipelines]

    def load_input(self, context: dg.InputContext) -> "pl.LazyFrame | pl.DataFrame":
        pipeline = self._pipeline(context)
        keys = set(context.asset_partition_keys) if context.has_asset_partitions else None
        try:
            frame = self._frame(pipeline, keys)
        except (LakeError, MissingExtra) as error:
            raise dg.Failure(str(error), allow_retries=False) from error
        import polars as pl

        return frame.collect() if context.dagster_type.typing_type is pl.DataFrame else frame

    def handle_output(self, context: dg.OutputContext, obj: object) -> None:
        raise dg.Failure(
            "EmbeddingsIOManager only loads: name it as an AssetIn's input_manager_key, and give this asset's output "
            "another IO manager",
            allow_retries=False,
        )

    def _pipeline(self, context: dg.InputContext) -> EmbeddingPipeline:
        named, key = context.definition_metadata.get(PIPELINE), context.asset_key
        for pipeline in self._pipelines:
            if pipeline.name == named or (not named and key in [asset_key(pipeline, name) for name in WITH_VECTORS]):
                return pipeline
        known = ", ".join(pipeline.name for pipeline in self._pipelines)
        raise dg.Failure(
            f"{named or key.to_user_string()}: EmbeddingsIOManager has the pipelines {known}, and reads their "
            f"{', '.join(WITH_VECTORS)}; an asset with another key needs AssetIn(metadata={{'{PIPELINE}': '…'}})",
            allow_retries=False,
        )

    def _frame(self, pipeline: EmbeddingPipeline, keys: set[str] | None) -> "pl.LazyFrame":
        """Of these partitions, whole datasets among them; of everything where the input has none."""
        need("polars")
        import polars as pl

        strides_of = PipelinePartitions(pipeline).strides_of
        if keys is not None and (strange := sorted(keys.difference(strides_of, *strides_of.values()))):
            raise NotReady(f"{', '.join(strange)}: no dataset and no partition of the pipeline {pipeline.name}")
        frames: dict[str, pl.LazyFrame] = {}
        for name, strides in strides_of.items():
            if keys is None or name in keys:
                frames[name] = self._lake.scan(pipeline, name)
            elif wanted := [key for key in strides if key in keys]:
                frames[name] = self._lake.scan(pipeline, name, partition=wanted)
        if not frames:
            raise NotReady(f"the input has no partition of the pipeline {pipeline.name}")
        named = [frame.select(pl.lit(name).alias("dataset"), pl.all()) for name, frame in frames.items()]
        return pl.concat(named, how="vertical")
