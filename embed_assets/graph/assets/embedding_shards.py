"""embedding_shards: one job a partition, committed and reported one by one."""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from embed_assets.checks.shard import SHARD_CHECKS
from embed_assets.graph.assets.embedding_set import SetWatch
from embed_assets.graph.assets.shard_run import ShardConfig, ShardRun
from embed_assets.graph.dagster_events import GraphOf, PartitionRun
from embed_assets.graph.definition import recorded_asset
from embed_assets.graph.keys import EMBEDDING_SET, EMBEDDING_SHARDS, STRIDE_PARTITIONS, asset_key
from embed_assets.graph.partitions import PipelinePartitions
from embed_assets.settings import Settings
from embed_assets.spec import EmbeddingPipeline
from resources.dagster import ComputeResource
from resources.lake import Lake

DESCRIPTION = """The vectors: one partition is one embedding job, committed by its manifest.

Each partition is embedded by vLLM in checkpoints, so a preempted job goes on where it was. It turns green the moment
its manifest is in the lake, with its figures and checks beside it. A partition that is committed already is adopted:
its checks run again, nothing is embedded again. A damaged one is made anew."""


def build_embedding_shards(
    pipeline: EmbeddingPipeline, partitions: PipelinePartitions, settings: Settings, graph_of: GraphOf
) -> dg.AssetsDefinition:
    key, set_key = asset_key(pipeline, EMBEDDING_SHARDS), asset_key(pipeline, EMBEDDING_SET)
    spec = pipeline.embedding
    revision = {"revision": spec.revision} if spec.revision else {}

    @recorded_asset(
        pipeline, EMBEDDING_SHARDS, settings, partitions.strides,
        description=DESCRIPTION,
        code_version=spec.spec_id,
        deps=[asset_key(pipeline, STRIDE_PARTITIONS)],
        kinds=["vllm", "skypilot" if settings.compute == "skypilot" else "python"],
        about={**revision, "dtype": spec.output_dtype, "max_tokens": spec.max_tokens, "spec_id": spec.spec_id},
        checks=SHARD_CHECKS,
    )  # fmt: skip
    def embedding_shards(
        context: dg.AssetExecutionContext,
        config: ShardConfig,
        lake: dg.ResourceParam[Lake],
        compute: ComputeResource,
    ) -> Iterator[Any]:
        run = PartitionRun.of_step(context, key)
        keys = run.partitions()
        shards = ShardRun(run, lake, pipeline, settings, config)
        if run.checks_only:
            shards.check(keys)
        else:
            of_sets = PartitionRun(context, set_key, graph_of(context), ())
            shards.make(keys, compute, SetWatch(of_sets, lake, pipeline).look)
        yield from run.finish(len(keys))

    return embedding_shards
