"""One run's shards: from partition keys through the driver to events."""

from collections.abc import Callable, Sequence

import dagster as dg
from pydantic import Field

from embed_assets.checks.outcome import Checked, CheckOutcome, all_failed, run_checks
from embed_assets.checks.proof import Proof, prove
from embed_assets.checks.shard import SHARD_CHECKS
from embed_assets.drive.driver import Driver
from embed_assets.drive.events import Committed
from embed_assets.estimate.prior import run_budget
from embed_assets.graph.assets.gate import keep_outcomes
from embed_assets.graph.assets.recorder import Recorder
from embed_assets.graph.assets.shard_jobs import NothingAdded, ShardJobs
from embed_assets.graph.dagster_events import INTERRUPTS, PartitionRun, RunLife
from embed_assets.graph.keys import STRIDE_PARTITIONS, asset_key
from embed_assets.graph.launch_config import LaunchConfig
from embed_assets.settings import Settings
from embed_assets.spec import EmbeddingPipeline
from embed_worker.lake.errors import BadManifest, LakeError
from embed_worker.lake.heartbeats import given_up_file
from embed_worker.lake.job import EmbedJob
from embed_worker.lake.layout import dataset_of
from embed_worker.lake.manifests import ShardManifest
from embed_worker.lake.parallel import in_parallel
from resources.compute import BackendBroken, Compute, ComputeUnavailable
from resources.dagster import ComputeResource
from resources.lake import Lake

INTERRUPTS_BORNE = 5


class ShardConfig(LaunchConfig):
    """What a launch may ask of embedding_shards."""

    force: bool = Field(
        default=False, description="Embed anew even what is committed, reusing nothing: its manifest is retired first"
    )
    max_attempts: int | None = Field(
        default=None, ge=1, description="Times a partition is tried in this run; EMBED_MAX_ATTEMPTS without it"
    )
    budget_usd: float | None = Field(
        default=None,
        gt=0,
        description="Dollars that all runs of the pipeline may spend together",
    )


class ShardRun:
    """What a run of embedding_shards works with."""

    def __init__(
        self, run: PartitionRun, lake: Lake, pipeline: EmbeddingPipeline, settings: Settings, config: ShardConfig
    ) -> None:
        self._run, self._lake, self._settings, self._config = run, lake, settings, config
        if config.budget_usd is not None:
            pipeline = pipeline.model_copy(update={"budget_usd": config.budget_usd})
        self._pipeline = pipeline
        self._jobs = ShardJobs(pipeline, lake, lambda text: run.tell(text, warning=True), reuse=not config.force)

    def check(self, keys: Sequence[str]) -> None:
        """Runs the checks of committed shards again; embeds nothing."""
        for partition in keys:
            try:
                job = self._jobs.job(partition)
            except NothingAdded as none:
                self._run.checked(partition, _empty(self._run.selected_checks, none))
            except LakeError as error:
                self._run.checked(partition, all_failed(self._run.selected_checks, str(error)))
            else:
                self._run.checked(partition, self._checked(job))

    def make(
        self, keys: Sequence[str], compute: ComputeResource, ended: Callable[[str], object] = lambda dataset: None
    ) -> list[str]:
        """Takes these partitions to committed or failed, recording each; those that are committed."""
        run, jobs, empty = self._run, list[EmbedJob](), list[str]()
        for partition in keys:
            try:
                jobs.append(self._jobs.with_reuse(self._jobs.job(partition)))
            except NothingAdded as none:
                self._nothing(partition, none)
                empty.append(partition)
            except LakeError as error:
                run.failed(partition, str(error))
        if self._config.force:
            self._retire(jobs)
        for dataset in {dataset_of(key) for key in empty} - {job.shard.dataset for job in jobs}:
            ended(dataset)
        if not jobs:
            return empty
        inputs = run.provenance.inputs([job.shard.key for job in jobs])
        recorder = Recorder(
            run, self._lake, jobs, inputs, asset_key(self._pipeline, STRIDE_PARTITIONS),
            fail_on=self._pipeline.fail_on, monitor_url=self._settings.monitor_url, ended=ended,
        )  # fmt: skip
        life = RunLife(run.context)
        with compute.session() as backend:
            budget = run_budget(self._lake, self._pipeline, self._settings, run.tell)
            driver = Driver(
                self._lake, backend, jobs, prove=self._prove, tell=run.tell, budget=budget, alive=life.goes_on,
                max_attempts=self._config.max_attempts or self._settings.max_attempts,
            )  # fmt: skip
            _drive(run, life, driver, backend, recorder)
        if budget.spent.jobs:
            run.tell(f"cost of this run: {budget.spent.text()}")
        return [*empty, *recorder.committed_keys]

    @property
    def _nothings_version(self) -> str:
        """Data version of the shard that a delta without added rows has not."""
        return f"empty-{self._pipeline.embedding.spec_id}"

    def _nothing(self, partition: str, none: NothingAdded) -> None:
        """Records a delta that adds nothing: no job, no shard."""
        self._run.committed(
            partition,
            data_version=self._nothings_version,
            metadata={
                "dagster/partition_row_count": 0,
                "next": "embedding_set of this dataset",
                "details": {"adopted": True},
            },
            inputs=self._run.provenance.inputs([partition])[partition],
            checks=_empty(self._run.selected_checks, none),
        )

    def due(self, keys: Sequence[str]) -> list[str]:
        """Those that are not committed, or that Dagster does not know as they are; and those that cannot be told."""
        recorded = self._run.provenance.recorded(keys)
        found = dict(zip(keys, in_parallel(self._committed, keys), strict=True))
        return [key for key in keys if found[key] is None or recorded.get(key) != found[key]]

    def missing(self, keys: Sequence[str]) -> list[str]:
        """Those that are not committed, or of which that cannot be told."""
        return [key for key, found in zip(keys, in_parallel(self._committed, keys), strict=True) if found is None]

    def given_up(self, keys: Sequence[str]) -> set[str]:
        """Those of which a run has said that it makes no further attempt."""

        def ask(key: str) -> bool:
            try:
                return self._lake.store.exists(given_up_file(self._jobs.job(key)))
            except LakeError:
                return False

        return {key for key, found in zip(keys, in_parallel(ask, keys), strict=True) if found}

    def _committed(self, key: str) -> str | None:
        """The data version of a shard; None without one."""
        try:
            manifest = self._lake.shard(self._jobs.job(key).shard)
        except NothingAdded:
            return self._nothings_version
        except LakeError:
            return None
        return manifest.data_version if manifest else None

    def _prove(self, job: EmbedJob, manifest: ShardManifest) -> Proof:
        return prove(self._jobs.view(job, manifest), self._run.selected_checks)

    def _checked(self, job: EmbedJob) -> Checked:
        outcomes, manifest = check_shard(self._lake, self._jobs, job, self._run.selected_checks)
        try:
            if manifest is not None:
                keep_outcomes(self._lake, manifest, outcomes)
        except LakeError as error:
            self._run.tell(f"{job.shard}: what its checks found is not kept in the lake: {error}", warning=True)
        return outcomes

    def _retire(self, jobs: Sequence[EmbedJob]) -> None:
        for job in jobs:
            try:
                judged = self._lake.shard(job.shard)
            except BadManifest:
                judged = None
            self._lake.retire(job.shard, judged)


def _empty(names: Sequence[str], none: NothingAdded) -> Checked:
    return {name: CheckOutcome(True, f"{none}: there is nothing to check") for name in names}


def check_shard(
    lake: Lake, jobs: ShardJobs, job: EmbedJob, names: Sequence[str]
) -> tuple[Checked, ShardManifest | None]:
    """Of a shard as it lies in the lake; and the manifest of what was checked."""
    try:
        manifest = lake.shard(job.shard)
    except BadManifest as error:
        return all_failed(names, str(error)), None
    if manifest is None:
        where = lake.url(job.shard.manifest_path)
        return all_failed(names, f"{where} is not there: the partition is not committed"), None
    return run_checks(SHARD_CHECKS, names, jobs.view(job, manifest)), manifest


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
