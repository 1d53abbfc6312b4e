"""`{pipeline}__check`: the checks of what is materialized, again. The UI cannot run one check of one partition."""

from collections.abc import Sequence

import dagster as dg
from pydantic import Field

from embed_assets.graph.assets.raw_reviews import check_snapshots
from embed_assets.graph.assets.shard_run import ShardConfig, ShardRun
from embed_assets.graph.assets.stride_partitions import check_strides
from embed_assets.graph.assets.vector_index import check_indexes
from embed_assets.graph.dagster_events import GraphOf, PartitionRun
from embed_assets.graph.definition import pipeline_job
from embed_assets.graph.jobs.scope import checks_of, chosen_datasets
from embed_assets.graph.keys import EMBEDDING_SHARDS, RAW_REVIEWS, STRIDE_PARTITIONS, VECTOR_INDEX, asset_key
from embed_assets.graph.launch_config import LaunchConfig
from embed_assets.graph.partitions import PipelinePartitions
from embed_assets.settings import Settings
from embed_assets.spec import EmbeddingPipeline
from embed_worker.lake.layout import delta_key
from resources.lake import Lake


class CheckConfig(LaunchConfig):
    """What is checked; by default all that is materialized."""

    datasets: list[str] = Field(default=[], description="Names of datasets; without any, all of the pipeline")
    sample: int | None = Field(
        default=None,
        ge=1,
        description="Only so many partitions of each dataset, spread evenly; each is read whole",
    )


def build_check_job(
    pipeline: EmbeddingPipeline, partitions: PipelinePartitions, settings: Settings, graph_of: GraphOf
) -> dg.JobDefinition:
    @dg.op(name=f"{pipeline.name}__check_op", description="The checks of what is materialized, again.")
    def check(context: dg.OpExecutionContext, config: CheckConfig, lake: dg.ResourceParam[Lake]) -> None:
        names = chosen_datasets(pipeline, config.datasets)
        graph = graph_of(context)

        def run_of(name: str, keys: Sequence[str]) -> tuple[PartitionRun, list[str]]:
            run = PartitionRun(context, asset_key(pipeline, name), graph, checks_of(pipeline, name), checks_only=True)
            materialized = context.instance.get_materialized_partitions(run.key)
            return run, [key for key in keys if key in materialized]

        run, keys = run_of(RAW_REVIEWS, [key for name in names for key in (name, delta_key(name))])
        check_snapshots(run, lake, pipeline, keys)
        strides = [key for name in names for key in _spread(partitions.strides_of[name], config.sample)]
        run, keys = run_of(STRIDE_PARTITIONS, strides)
        check_strides(run, lake, pipeline, keys)
        run, keys = run_of(EMBEDDING_SHARDS, strides)
        ShardRun(run, lake, pipeline, settings, ShardConfig()).check(keys)
        run, keys = run_of(VECTOR_INDEX, names)
        check_indexes(run, lake, pipeline, keys)

    return pipeline_job(
        pipeline, "check", check,
        description=f"Runs the checks of what is materialized of {pipeline.name} again; makes nothing.",
    )  # fmt: skip


def _spread(keys: Sequence[str], number: int | None) -> list[str]:
    if number is None or number >= len(keys):
        return list(keys)
    return [keys[i * len(keys) // number] for i in range(number)]
