"""embedding_shards: one job a partition, committed and reported one by one."""

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, TypeVar, cast

import dagster as dg
from dagster._core.errors import DagsterExecutionInterruptedError

from embed_assets.checks.outcome import CheckOutcome, all_failed, run_checks
from embed_assets.checks.shard import SHARD_CHECKS
from embed_assets.drive.driver import Committed, Driver, Failed, Note, Plan, Stopped
from embed_assets.estimate.prior import cost_watch
from embed_assets.graph.common import (
    EMBEDDING_DIGEST,
    EMBEDDING_SHARDS,
    STRIDE_PARTITIONS,
    NotReady,
    asset_key,
    check_specs,
    spec_options,
)
from embed_assets.graph.dagster_events import DATA_VERSION, Inputs, PartitionRun
from embed_assets.graph.partitions import PipelinePartitions
from embed_assets.graph.shard_jobs import ShardPlanner
from embed_assets.settings import Settings
from embed_assets.spec import EmbeddingPipeline
from embed_assets.tell.metadata import shard_metadata
from embed_assets.tell.pictures import POINTS
from embed_assets.tell.summary import tokens_per_second
from embed_worker.lake import failpoints
from embed_worker.lake.errors import WorkerError
from embed_worker.lake.integrity import restore_space
from embed_worker.lake.manifests import BadManifest, ShardManifest
from resources.compute import BackendBroken, Compute, ComputeResource, ComputeUnavailable
from resources.lake import LakeResource

T = TypeVar("T")
Checked = dict[str, CheckOutcome]
INTERRUPTS = (Stopped, DagsterExecutionInterruptedError, KeyboardInterrupt)
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
        partitions_def=partitions.strides,
        can_subset=True,
        backfill_policy=dg.BackfillPolicy.multi_run(settings.partitions_per_run),
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
        context: dg.AssetExecutionContext, lake: LakeResource, compute: ComputeResource
    ) -> Iterator[Any]:
        run = PartitionRun(context, key, {stride_key: lambda partition: partition})
        planner = ShardPlanner(pipeline, lake, context.log.warning)
        plans: list[Plan] = []
        keys = run.partitions()
        for partition in keys:
            try:
                plans.append(planner.plan(partition))
            except (NotReady, BadManifest, WorkerError) as error:
                if run.checks_only:
                    run.checked(partition, all_failed(run.selected_checks, str(error)))
                else:
                    run.failed(partition, str(error))
        if run.checks_only:
            for plan in plans:
                run.checked(plan.key, _check(lake, planner, plan, run.selected_checks))
            return
        inputs = run.inputs(plan.key for plan in plans)
        recorder = _Recorder(run, lake, planner, inputs, stride_key, digest_key, partitions, settings.monitor_url)
        with compute.session() as backend:
            watch = cost_watch(lake, pipeline, settings, context.log.info)
            driver = Driver(
                lake, backend, plans, max_attempts=settings.max_attempts, watch=watch, alive=_alive(context)
            )
            _drive(context, driver, backend, recorder)
        if watch.spent.jobs:
            context.log.info(f"cost of this run: {watch.spent.text()}")
        run.finish(len(keys))
        yield from ()

    digest = dg.AssetSpec(
        digest_key,
        partitions_def=partitions.datasets,
        description="Digest of a dataset's complete set of shards. Observed when the last shard is committed; "
        "it lets vector_index go stale, whatever the number of shards.",
        group_name=pipeline.name,
        owners=list(pipeline.owners),
    )
    return [embedding_shards, digest]


def _check(lake: LakeResource, planner: ShardPlanner, plan: Plan, checks: list[str]) -> dict[str, CheckOutcome]:
    try:
        manifest = lake.shard(plan.job.output)
    except BadManifest as error:
        return all_failed(checks, str(error))
    if manifest is None:
        return all_failed(checks, f"{lake.url(plan.job.manifest_path)} is not there: the partition is not committed")
    return run_checks(SHARD_CHECKS, checks, planner.view(plan, manifest))


def _drive(context: dg.AssetExecutionContext, driver: Driver, compute: Compute, recorder: "_Recorder") -> None:
    """Runs the driver to its end. Cancelling the run cancels its jobs; a mere death of this process leaves them."""

    def tell(note: Note) -> None:
        (context.log.warning if note.warning else context.log.info)(note.text)

    def ask(question: Callable[[], T]) -> T:
        """Of the lake, until it answers."""
        notes = driver.until_answered(question)
        while True:
            try:
                tell(next(notes))
            except StopIteration as end:
                return cast(T, end.value)

    try:
        for outcome in driver.run():
            match outcome:
                case Committed():
                    ask(partial(recorder.restore, outcome))
                    recorder.committed(outcome, ask)
                case Failed():
                    recorder.run.failed(outcome.key, f"{outcome.error} (attempts: {outcome.attempts})", outcome.log)
                case Note():
                    tell(outcome)
    except INTERRUPTS as error:
        _leave(context, driver, compute)
        raise DagsterExecutionInterruptedError from error
    except (WorkerError, BackendBroken) as error:
        raise dg.Failure(str(error), allow_retries=False) from error


def _leave(context: dg.AssetExecutionContext, driver: Driver, compute: Compute) -> None:
    """Cancels the open jobs, or leaves them. Terminate sets the status first and sends its signal a moment later:
    that signal must not cut this short."""
    for _ in range(INTERRUPTS_BORNE):
        try:
            if not _is_cancelled(context) and compute.outlives_driver:
                count = len(driver.open_handles)
                context.log.warning(f"this run is going away; {count} jobs go on, re-execute to attach")
                return
            context.log.info(f"cancelled {driver.cancel()} jobs; what they have committed is kept")
            return
        except ComputeUnavailable as fault:
            context.log.error(f"jobs of this run could not be cancelled: {fault}")
            return
        except INTERRUPTS:
            continue


def _is_cancelled(context: dg.AssetExecutionContext) -> bool:
    run = context.instance.get_run_by_id(context.run_id)
    return run is not None and run.status in (dg.DagsterRunStatus.CANCELING, dg.DagsterRunStatus.CANCELED)


def _alive(context: dg.AssetExecutionContext) -> Callable[[], bool]:
    """False once the run is cancelled, or the code server that started this process is gone."""
    parent = os.getppid()
    return lambda: os.getppid() == parent and not _is_cancelled(context)


class _Recorder:
    """Writes down each committed partition: digest of the set, materialization, checks."""

    def __init__(
        self,
        run: PartitionRun,
        lake: LakeResource,
        planner: ShardPlanner,
        inputs: dict[str, Inputs],
        stride_key: dg.AssetKey,
        digest_key: dg.AssetKey,
        partitions: PipelinePartitions,
        monitor_url: str | None,
    ) -> None:
        self._monitor_url, self._rates = monitor_url, deque[float](maxlen=POINTS)
        self.run, self._lake, self._planner, self._inputs = run, lake, planner, inputs
        self._stride_key, self._digest_key, self._partitions = stride_key, digest_key, partitions
        self._witness: dict[str, str] = {}  # a partition of each dataset that had no materialization when last seen

    def restore(self, outcome: Committed) -> None:
        """All that recording a partition asks of the lake before there is an event of it."""
        if fault := restore_space(self._lake.store, outcome.manifest):
            self.run.context.log.warning(f"{outcome.key}: {fault}; restored from this partition's manifest")

    def committed(self, outcome: Committed, ask: Callable[[Callable[[], Checked]], Checked]) -> None:
        """`ask` puts a question to the lake until it answers."""
        plan = self._planner.plan(outcome.key)
        view = self._planner.view(plan, outcome.manifest, proved=outcome.adopted)
        observed = self._observe_set(plan, outcome.manifest)
        self._rates.append(tokens_per_second(outcome.manifest))
        self.run.committed(
            outcome.key,
            data_version=outcome.manifest.data_version,
            metadata=shard_metadata(
                self._lake, plan.job, outcome, self._stride_key, list(self._rates), self._monitor_url
            ),
            inputs=self._inputs[outcome.key],
            checks=lambda selected: ask(lambda: run_checks(SHARD_CHECKS, selected, view, ask_again=True)),
        )
        if not observed:  # another run may have recorded the last but one meanwhile, as blind for this one's
            self._observe_set(plan, outcome.manifest, recorded=True)

    def _observe_set(self, plan: Plan, manifest: ShardManifest, *, recorded: bool = False) -> bool:
        """Just before the last shard's event, so that a backfill that waits for the shards sees the new digest.

        False where the set is not complete.
        """
        keys = self._partitions.strides_of[plan.job.dataset]
        witness = self._witness.get(plan.job.dataset, plan.key)
        if witness != plan.key and not self._versions([witness]):
            return False  # the set is not complete: no need to ask for all of it at each of its commits
        versions = self._versions(keys)
        missing = next((key for key in reversed(keys) if key not in versions and key != plan.key), plan.key)
        self._witness[plan.job.dataset] = missing
        if versions.get(plan.key) == manifest.data_version and not recorded:
            return True
        versions[plan.key] = manifest.data_version
        if len(versions) == len(keys):
            digest = hashlib.sha256("".join(versions[key] for key in keys).encode()).hexdigest()[:16]
            self.run.context.log_event(
                dg.AssetObservation(self._digest_key, partition=plan.job.dataset, tags={DATA_VERSION: digest})
            )
            failpoints.reach("record.observed")
        return len(versions) == len(keys)

    def _versions(self, keys: list[str]) -> dict[str, str]:
        """Data versions of the partitions among `keys` that are materialized."""
        tags = self.run.context.instance.event_log_storage.get_latest_tags_by_partition(
            self.run.key, dg.DagsterEventType.ASSET_MATERIALIZATION, [DATA_VERSION], asset_partitions=keys
        )
        return {key: found[DATA_VERSION] for key, found in tags.items()}
