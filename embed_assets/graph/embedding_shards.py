"""embedding_shards: one job a partition, committed and reported one by one."""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from embed_assets.checks.outcome import Checked, all_failed, run_checks
from embed_assets.checks.proof import Proof, prove
from embed_assets.checks.shard import SHARD_CHECKS
from embed_assets.drive.driver import Driver
from embed_assets.drive.events import Committed
from embed_assets.estimate.prior import run_budget
from embed_assets.graph.common import (
    EMBEDDING_DIGEST,
    EMBEDDING_SHARDS,
    STRIDE_PARTITIONS,
    asset_key,
    asset_options,
    backfill_policy,
    check_specs,
    op_options,
    spec_options,
)
from embed_assets.graph.dagster_events import INTERRUPTS, PartitionRun, RunLife
from embed_assets.graph.partitions import PipelinePartitions
from embed_assets.graph.recorder import Recorder, SetDigest
from embed_assets.graph.shard_jobs import ShardJobs
from embed_assets.settings import Settings
from embed_assets.spec import EmbeddingPipeline
from embed_worker.lake.errors import BadManifest, LakeError
from embed_worker.lake.job import EmbedJob
from embed_worker.lake.manifests import ShardManifest
from resources.compute import BackendBroken, Compute, ComputeUnavailable
from resources.dagster import ComputeResource
from resources.lake import Lake

INTERRUPTS_BORNE = 5

DESCRIPTION = """The vectors: one partition is one embedding job, committed by its manifest.

Each partition is embedded by vLLM in checkpoints, so a preempted job goes on where it was. It turns green the moment
its manifest is in the lake, with its figures and checks beside it. A partition that is committed already is adopted:
its checks run again, nothing is embedded again. A damaged one is made anew."""


def build_embedding_shards(
    pipeline: EmbeddingPipeline, partitions: PipelinePartitions, settings: Settings
) -> list[dg.AssetsDefinition | dg.AssetSpec]:
    key, stride_key = asset_key(pipeline, EMBEDDING_SHARDS), asset_key(pipeline, STRIDE_PARTITIONS)
    digest_key = asset_key(pipeline, EMBEDDING_DIGEST)

    @dg.multi_asset(
        name=f"{pipeline.name}__{EMBEDDING_SHARDS}",
        **op_options(pipeline, EMBEDDING_SHARDS),
        partitions_def=partitions.strides,
        can_subset=True,
        backfill_policy=backfill_policy(partitions.count, settings.partitions_per_run),
        specs=[
            dg.AssetSpec(
                key,
                description=DESCRIPTION,
                code_version=pipeline.embedding.spec_id,
                deps=[stride_key],
                **spec_options(pipeline, ["vllm", "skypilot" if settings.compute == "skypilot" else "python"]),
            )
        ],
        check_specs=check_specs(key, SHARD_CHECKS, partitions.strides),
    )
    def embedding_shards(
        context: dg.AssetExecutionContext, lake: dg.ResourceParam[Lake], compute: ComputeResource
    ) -> Iterator[Any]:
        run = PartitionRun(context, key, {stride_key: lambda partition: partition})
        shard_jobs = ShardJobs(pipeline, lake, context.log.warning)
        jobs: list[EmbedJob] = []
        keys = run.partitions()
        for partition in keys:
            try:
                jobs.append(shard_jobs.job(partition))
            except LakeError as error:
                if run.checks_only:
                    run.checked(partition, all_failed(run.selected_checks, str(error)))
                else:
                    run.failed(partition, str(error))
        if run.checks_only:
            for job in jobs:
                run.checked(job.shard.key, _check(lake, shard_jobs, job, run.selected_checks))
            return

        def prove_shard(job: EmbedJob, manifest: ShardManifest) -> Proof:
            return prove(shard_jobs.view(job, manifest), run.selected_checks)

        inputs = run.inputs(job.shard.key for job in jobs)
        digest = SetDigest(run, digest_key, partitions)
        recorder = Recorder(run, lake, jobs, inputs, stride_key, digest, settings.monitor_url)
        life = RunLife(context)
        with compute.session() as backend:
            budget = run_budget(lake, pipeline, settings, context.log.info)
            driver = Driver(
                lake, backend, jobs,
                prove=prove_shard, tell=run.tell, max_attempts=settings.max_attempts, budget=budget, alive=life.goes_on,
            )  # fmt: skip
            _drive(run, life, driver, backend, recorder)
        if budget.spent.jobs:
            context.log.info(f"cost of this run: {budget.spent.text()}")
        run.finish(len(keys))
        yield from ()

    digest = dg.AssetSpec(
        digest_key,
        partitions_def=partitions.datasets,
        description="Digest of a dataset's complete set of shards. Observed when the last shard is committed; "
        "it lets vector_index go stale, whatever the number of shards.",
        **asset_options(pipeline),
    )
    return [embedding_shards, digest]


def _check(lake: Lake, shard_jobs: ShardJobs, job: EmbedJob, checks: list[str]) -> Checked:
    try:
        manifest = lake.shard(job.shard)
    except BadManifest as error:
        return all_failed(checks, str(error))
    if manifest is None:
        where = lake.url(job.shard.manifest_path)
        return all_failed(checks, f"{where} is not there: the partition is not committed")
    return run_checks(SHARD_CHECKS, checks, shard_jobs.view(job, manifest))


def _drive(run: PartitionRun, life: RunLife, driver: Driver, compute: Compute, recorder: Recorder) -> None:
    """Runs the driver to its end. Cancelling the run cancels its jobs; a mere death of this process leaves them."""
    try:
        for outcome in driver.run():
            if isinstance(outcome, Committed):
                recorder.committed(outcome)
            else:
                recorder.failed(outcome)
    except INTERRUPTS as error:
        _leave(run, life, driver, compute)
        raise life.interruption() from error
    except (LakeError, BackendBroken) as error:
        raise dg.Failure(str(error), allow_retries=False) from error


def _leave(run: PartitionRun, life: RunLife, driver: Driver, compute: Compute) -> None:
    """Cancels the open jobs, or leaves them. Terminate sets the status first and sends its signal a moment later:
    that signal must not cut this short."""
    for _ in range(INTERRUPTS_BORNE):
        try:
            cancelled = life.is_cancelled()
            if not cancelled and compute.outlives_driver:
                run.tell(
                    f"this run is going away; {len(driver.open_handles)} jobs go on, re-execute to attach", warning=True
                )
                return
            count = driver.cancel()
            why = "this run was cancelled" if cancelled else "this run's process is going away"
            run.tell(f"{why}: {count} jobs are stopped; what they have committed is kept")
            return
        except ComputeUnavailable as fault:
            run.context.log.error(f"jobs of this run could not be stopped: {fault}")
            return
        except INTERRUPTS:
            continue
