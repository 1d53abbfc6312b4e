"""`{pipeline}__update`: whatever is due of a pipeline, through all its assets, in ONE run.

Dagster makes a run for each contiguous range, has no press for "what is unsynced" of a partitioned asset, and turns
untouched partitions of a failed range red. This job logs the events of any scatter of partitions, and of no other.
"""

from collections.abc import Sequence
from typing import Any, Literal

import dagster as dg
from dagster._core.storage.partition_status_cache import AssetPartitionStatus
from pydantic import Field

from embed_assets.graph.assets.embedding_set import SetWatch, make_sets
from embed_assets.graph.assets.raw_reviews import Rebase, update_snapshots
from embed_assets.graph.assets.shard_run import ShardConfig, ShardRun
from embed_assets.graph.assets.stride_partitions import make_strides
from embed_assets.graph.assets.taken import SnapshotConfig
from embed_assets.graph.assets.vector_index import make_indexes
from embed_assets.graph.dagster_events import Failures, GraphOf, PartitionRun
from embed_assets.graph.definition import pipeline_job
from embed_assets.graph.jobs.scope import checks_of, chosen_datasets
from embed_assets.graph.keys import (
    EMBEDDING_SET,
    EMBEDDING_SHARDS,
    RAW_REVIEWS,
    STRIDE_PARTITIONS,
    VECTOR_INDEX,
    asset_key,
)
from embed_assets.graph.partitions import PipelinePartitions
from embed_assets.settings import Settings
from embed_assets.spec import EmbeddingPipeline
from embed_worker.extras import MissingExtra, need
from embed_worker.lake.layout import dataset_of
from resources.dagster import ComputeResource
from resources.lake import Lake


class UpdateConfig(ShardConfig):
    """What an update takes; by default whatever is due."""

    datasets: list[str] = Field(default=[], description="Names of datasets; without any, all of the pipeline")
    only: Literal["due", "missing", "failed"] = Field(
        default="due",
        description="Of embedding_shards: due: not committed, or not as Dagster knows it; missing: not committed; "
        "failed: red in Dagster, or given up by the run before",
    )
    sample_rows: int | None = Field(default=None, ge=1, description="Only the first so many rows of each dataset")
    rebase: Rebase = Field(
        default="auto",
        description="When the latest snapshot becomes the base: auto: where the delta is more than the dataset's "
        "rebase_above; never; now",
    )
    confirm: bool = Field(
        default=False, description="Take snapshots that lose or change more rows than max_removed and max_changed"
    )


def build_update_job(
    pipeline: EmbeddingPipeline, partitions: PipelinePartitions, settings: Settings, graph_of: GraphOf
) -> dg.JobDefinition:
    options = pipeline.op.of(EMBEDDING_SHARDS)  # it drives GPUs, too

    @dg.op(
        name=f"{pipeline.name}__update_op",
        description="All that is due, partition by partition.",
        pool=options.pool,
        tags=options.tags,
    )
    def update(
        context: dg.OpExecutionContext, config: UpdateConfig, lake: dg.ResourceParam[Lake], compute: ComputeResource
    ) -> None:
        _Update(context, pipeline, partitions, settings, config, lake, graph_of(context)).run(compute)

    return pipeline_job(
        pipeline, "update", update,
        description=f"Takes what is due of {pipeline.name} through all assets in one run: what the sources have "
        "become, as deltas or as new bases, strides, the shards that are not committed, the sets they complete, their "
        f"indexes. A partition that fails turns no other red. {pipeline.description}",
    )  # fmt: skip


class _Update:
    """One run of the job."""

    def __init__(
        self,
        context: dg.OpExecutionContext,
        pipeline: EmbeddingPipeline,
        partitions: PipelinePartitions,
        settings: Settings,
        config: UpdateConfig,
        lake: Lake,
        graph: Any,
    ) -> None:
        self._context, self._pipeline, self._partitions, self._settings = context, pipeline, partitions, settings
        self._config, self._lake, self._graph, self._failures = config, lake, graph, Failures()
        self._names = chosen_datasets(pipeline, config.datasets)
        if config.sample_rows is not None and config.only != "due":
            raise dg.Failure(
                f"sample_rows makes new snapshots; it goes with `only: due`, not with {config.only!r}",
                allow_retries=False,
            )

    def run(self, compute: ComputeResource) -> None:
        config, lake, pipeline, names = self._config, self._lake, self._pipeline, self._names
        keys = self._keys(names)
        if config.only == "due":
            snapshots = SnapshotConfig(sample_rows=config.sample_rows, confirm=config.confirm)
            names = update_snapshots(self._of(RAW_REVIEWS), lake, pipeline, names, snapshots, config.rebase)
            keys = self._keys(names)
            keys = make_strides(self._of(STRIDE_PARTITIONS), lake, pipeline, self._settings, keys, record_all=False)
        shards = ShardRun(self._of(EMBEDDING_SHARDS), lake, pipeline, self._settings, config)
        due = keys if config.force and config.only == "due" else self._due(shards, keys)
        self._context.log.info(f"due: {len(due):,} of {len(keys):,} partitions of embedding_shards")
        if due:
            shards.make(due, compute)
        self._publish(names, {dataset_of(key) for key in due})
        self._failures.raise_if_any(len(self._names) + len(keys))

    def _publish(self, names: Sequence[str], touched: set[str]) -> None:
        """Sets and indexes of the datasets whose shards are all there."""
        lake, pipeline, sets = self._lake, self._pipeline, self._of(EMBEDDING_SET)
        failed = {dataset_of(key) for name in names for key in self._failed_of(name)}
        if self._config.only == "failed":  # others may be missing, and nobody asked for them
            watch = SetWatch(sets, lake, pipeline)
            made = [name for name in names if name in touched - failed and watch.look(name)]
        else:
            whole = [name for name in names if name not in failed]
            made = make_sets(sets, lake, pipeline, whole, record_all=False)
        if made and self._indexable():
            make_indexes(self._of(VECTOR_INDEX), lake, pipeline, made, record_all=False)

    def _failed_of(self, name: str) -> list[str]:
        return [key for key in self._partitions.strides_of[name] if key in self._failures]

    def _due(self, shards: ShardRun, keys: list[str]) -> list[str]:
        if self._config.only == "due":
            return shards.due(keys)
        missing = shards.missing(keys)
        if self._config.only == "missing":
            return missing
        key, definition = asset_key(self._pipeline, EMBEDDING_SHARDS), self._partitions.strides
        states = self._context.instance.get_status_by_partition(key, keys, definition) or {}
        given_up = shards.given_up(missing)
        return [k for k in keys if states.get(k) == AssetPartitionStatus.FAILED or k in given_up]

    def _indexable(self) -> bool:
        try:
            need("index")
        except MissingExtra as error:
            self._context.log.warning(f"vector_index is left out: {error}")
            return False
        return True

    def _keys(self, names: Sequence[str]) -> list[str]:
        return [key for name in names for key in self._partitions.strides_of[name]]

    def _of(self, name: str) -> PartitionRun:
        key = asset_key(self._pipeline, name)
        return PartitionRun(self._context, key, self._graph, checks_of(self._pipeline, name), self._failures)
