"""The SkyPilot backend: a managed job a partition, launched once, watched with one queue call a poll."""

import concurrent.futures
import time
from collections.abc import Callable, Mapping, Sequence
from os.path import commonprefix
from typing import Any

from embed_worker.lake.job import EmbedJob
from resources.compute import BackendBroken, ComputeUnavailable, JobHandle, JobState, JobStatus
from resources.skypilot.client import Record, SkyClient
from resources.skypilot.cost import Ledger, PriceList
from resources.skypilot.deadlines import Threads
from resources.skypilot.errors import LaunchFailed, LaunchRejected
from resources.skypilot.job import ManagedJob, Phase
from resources.skypilot.limits import overdue
from resources.skypilot.lookout import SETTLE_SECONDS, Lookout
from resources.skypilot.places import advice, check_engine
from resources.skypilot.settings import SkyPilotFields
from resources.skypilot.states import CONTROLLER_LOG, REJECTED, logs_command

ABSENT_SECONDS = 60.0
"""A lost launch that is neither in flight nor in the queue for so long did not happen."""
VANISHED_SECONDS = 600.0
"""A server that answers, yet has not known a job for so long, has lost it."""
CANCEL_SECONDS = SETTLE_SECONDS + 10.0


class SkyPilotCompute:
    """Compute over one API server. Called by the driver's thread; launches happen in threads of its own."""

    outlives_driver = True

    def __init__(
        self,
        client: SkyClient,
        config: Mapping[str, Any],
        settings: SkyPilotFields,
        *,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
        threads: Threads | None = None,
    ) -> None:
        self._client, self._config, self._settings = client, config, settings
        self._clock, self._sleep = clock, sleep
        self._prices = PriceList(client.hourly_price, clock)
        self._threads = threads or Threads(settings.launch_parallelism, "sky-launch")
        self._jobs: dict[str, ManagedJob] = {}  # the latest of each name
        self._ended: set[int] = set()  # ids that are not to be found again
        self._lookout = Lookout(client, settings.name_prefix, clock)
        self._awaited: frozenset[str] | None = None  # launches that `find` waits for
        self._polled_at = float("-inf")
        self._broken: BackendBroken | None = None
        self._closed = False
        self.poll_seconds = settings.poll_seconds
        self.slots = settings.max_concurrent_jobs

    # -- the protocol ----------------------------------------------------------------------------

    def advice(self, jobs: int) -> Sequence[str]:
        local, pool = self._client.server_is_here, bool(self._settings.pool)
        return advice(self._config, self._settings.lake, jobs, local_server=local, pool=pool)

    def submit(self, name: str, job: EmbedJob, url: str) -> JobHandle:
        """Returns at once: the launch goes on in a thread, its outcome comes with the polls.

        It waits, also with the polls, for launches in flight that may be an earlier run's of the same job. A run that
        was killed can only have sent what is there at the first look.
        """
        known = self._jobs.get(name)
        if known is not None and not known.status.state.final:
            return known.handle
        if not self._settings.pool:
            check_engine(self._config, job)
        if self._clock() - self._lookout.at > self.poll_seconds:
            self._lookout.launches(self._launching())
            self._lookout.jobs(self._ended)
        entry = self._new(name, {**self._config, "envs": {**self._config["envs"], "EMBED_JOB": url}})
        entry.asked_at, entry.behind = self._clock(), self._lookout.maybe([entry.name])
        self._decide([entry])
        return entry.handle

    def find(self, names: Sequence[str]) -> dict[str, JobHandle]:
        """Raises ComputeUnavailable while launches that an earlier run left may be in flight: ask again."""
        self._lookout.launches(self._launching())
        if self._awaited is None:
            self._awaited = frozenset(self._lookout.in_flight)
        if doubt := self._lookout.doubt(self._awaited & self._lookout.maybe({self._full(name) for name in names})):
            raise ComputeUnavailable(doubt)
        self._awaited = None
        self._lookout.jobs(self._ended)
        live = self._lookout.live
        found = {name: live[full] for name in names if (full := self._full(name)) in live}
        return {name: self._attach(name, record).handle for name, record in found.items()}

    def poll(self, handles: Sequence[JobHandle]) -> dict[JobHandle, JobStatus]:
        if self._broken is not None:
            raise self._broken
        jobs = {handle: self._jobs[handle.name] for handle in handles}
        open_jobs = [job for job in jobs.values() if not job.status.state.final]
        if any(job.phase is not Phase.LAUNCHING for job in open_jobs) and self._due():
            if waiting := [job for job in open_jobs if job.phase is Phase.WAITING]:
                self._settle(waiting)
            self._refresh(open_jobs)
        for job in open_jobs:
            if job.status.state.final and job.job_id is not None:
                self._ended.add(job.job_id)
        return {handle: job.status for handle, job in jobs.items()}

    def cancel(self, handles: Sequence[JobHandle]) -> None:
        jobs = [job for handle in handles if not (job := self._jobs[handle.name]).status.state.final]
        for job in jobs:
            job.cancelled = True  # a launch that has not been sent stays unsent
        deadline = self._clock() + CANCEL_SECONDS
        concurrent.futures.wait([job.future for job in jobs if job.future is not None], CANCEL_SECONDS)
        left: list[ManagedJob] = [job for job in jobs if not job.status.state.final]
        while left:
            trouble = "the API server has not answered their launch"
            try:
                if waiting := [job for job in left if job.phase is Phase.WAITING]:
                    self._settle(waiting)
                if any(job.phase is Phase.LOST for job in left):
                    self._find_lost(left)
                if ids := self._ids(left):
                    self._client.cancel(ids)
                for job in left:
                    if job.job_id is not None or not (job.sent or job.phase is Phase.WAITING):
                        job.end(JobState.CANCELLED, "cancelled by this run")
                left = [job for job in left if not job.status.state.final]
            except ComputeUnavailable as error:
                trouble = str(error)
            if left and self._clock() >= deadline:
                known = " ".join(str(job.job_id or job.name) for job in left)
                raise ComputeUnavailable(f"{trouble}; {len(left)} jobs may go on: `sky jobs cancel {known}`")
            if left:
                self._sleep(2.0)

    def logs(self, handle: JobHandle, lines: int = 100) -> str:
        job = self._jobs[handle.name]
        if job.job_id is None:
            return "(no managed job was made, so there is no log)"
        try:
            text = self._client.logs(job.job_id, lines, controller=job.seen in CONTROLLER_LOG)
        except ComputeUnavailable as error:
            text = f"(no log: {error})"
        return f"{text or '(SkyPilot has no log of it)'}\n[the whole log: {logs_command(job.seen, job.job_id)}]"

    def close(self) -> None:
        """Leaves the jobs alone; only launches that were not sent are dropped."""
        self._closed = True
        self._threads.close()

    # -- launching -------------------------------------------------------------------------------

    def _launch(self, job: ManagedJob) -> None:
        """In a thread. Whatever happens is written into the job."""
        try:
            if job.request is None:
                if job.cancelled or self._closed:
                    return
                job.sent = True
                job.request = self._client.launch(job.config, job.name, self._settings.pool)
            job_id = self._client.launched(job.request)
        except ComputeUnavailable as error:
            job.lost_at, job.phase = job.lost_at or self._clock(), Phase.LOST
            job.status = JobStatus(JobState.STARTING, f"the launch's answer got lost ({error}); looking for the job")
        except LaunchRejected as error:
            job.end(JobState.REFUSED, f"SkyPilot rejects the launch of {job.name}: {error}", REJECTED)
        except LaunchFailed as error:
            job.end(JobState.FAILED, f"SkyPilot could not launch {job.name}: {error}")
        except BackendBroken as error:
            self._broken = error
        except Exception as error:
            job.end(JobState.FAILED, f"the launch of {job.name} failed: {type(error).__name__}: {error}")
        else:
            job.dashboard = self._client.dashboard(job_id)
            job.resolve(job_id)
            if job.cancelled and job.status.state is not JobState.CANCELLED:
                self._cancel_late(job_id)

    def _cancel_late(self, job_id: int) -> None:
        """The answer came while, or after, the job was being cancelled."""
        try:
            self._client.cancel([job_id])
        except ComputeUnavailable:
            pass  # `cancel` itself goes on trying, and says so where it gives up

    def _find_lost(self, jobs: Sequence[ManagedJob]) -> None:
        """Looks up jobs whose launch was not answered; launches anew only what surely does not exist.

        Requests before jobs: a launch that ends between the two looks is then in the queue.
        """
        lost = [job for job in jobs if job.phase is Phase.LOST]
        absent = [job for job in lost if self._clock() - job.lost_at > ABSENT_SECONDS]
        in_flight = set(self._client.launches_in_flight().values()) if absent else set()
        shared = commonprefix([job.name for job in lost])  # noqa: RUF071 - of characters; the history may be long
        records = self._client.queue(name_match=shared)
        for job in lost:
            gone = job in absent and job.name not in in_flight
            if (job_id := job.made_as(records, self._ended, gone)) is not None:
                job.dashboard = self._client.dashboard(job_id)
                job.resolve(job_id)
            elif gone:
                if job.cancelled:
                    job.end(JobState.CANCELLED, "cancelled by this run; its launch never reached the server")
                else:
                    job.request, job.lost_at = None, 0.0
                    self._start(job)
            elif not job.cancelled and job.request is not None:
                self._start(job)  # requests are remembered for a day: asks again what became of it

    def _start(self, job: ManagedJob) -> None:
        job.phase = Phase.LAUNCHING
        job.future = self._threads.submit(lambda: self._launch(job))

    # -- looking ---------------------------------------------------------------------------------

    def _settle(self, waiting: Sequence[ManagedJob]) -> None:
        """Looks again for what these wait for; never waits itself."""
        self._lookout.launches(self._launching())
        if not all(self._lookout.doubt(job.behind) for job in waiting):
            self._lookout.jobs(self._ended)
        self._decide(waiting)

    def _decide(self, waiting: Sequence[ManagedJob]) -> None:
        """Attaches to the live job of the name, or launches one where there surely is none."""
        for job in waiting:
            record = self._lookout.live.get(job.name)
            if doubt := self._lookout.doubt(job.behind):
                hangs = self._clock() - job.asked_at > SETTLE_SECONDS
                job.status = JobStatus(JobState.QUEUED, doubt, notice=f"{job.name} waits: {doubt}" if hangs else "")
            elif record is not None and int(record["job_id"]) not in self._ended:
                job.attach(record, self._client.dashboard(int(record["job_id"])), self._clock())
            elif job.cancelled:
                job.end(JobState.CANCELLED, "cancelled by this run; it was not launched")
            else:
                self._start(job)

    def _launching(self) -> set[str]:
        return {job.name for job in self._jobs.values() if job.phase is Phase.LAUNCHING}

    def _due(self) -> bool:
        """A queue call costs the server seconds of a core: never more than one an interval."""
        if self._clock() - self._polled_at < 0.9 * self.poll_seconds:
            return False
        self._polled_at = self._clock()
        return True

    def _refresh(self, jobs: Sequence[ManagedJob]) -> None:
        """The one queue call of a poll; where launches are lost, another that looks for them."""
        if any(job.phase is Phase.LOST for job in jobs):
            self._find_lost(jobs)
        records = self._client.queue(job_ids=self._ids(jobs))
        now = self._clock()
        by_id = {int(record["job_id"]): record for record in records}
        for job in jobs:
            if job.job_id is None:
                continue
            if (record := by_id.get(job.job_id)) is not None:
                job.read(record, now)
                self._check_limits(job, record, now)
                continue
            job.missing_since = job.missing_since or now
            if now - job.missing_since > VANISHED_SECONDS:
                job.end(JobState.FAILED, f"the API server no longer knows managed job {job.job_id} ({job.name})")

    def _check_limits(self, job: ManagedJob, record: Record, now: float) -> None:
        if (over := overdue(job, record, now, self._settings)) is None:
            return
        if not over.cancel:
            job.late, job.status.notice = True, over.text
            return
        try:
            self._client.cancel(self._ids([job]))
        except ComputeUnavailable:
            return  # at the next poll
        job.end(JobState.REFUSED, over.text, over.kind)

    # -- small things ----------------------------------------------------------------------------

    def _full(self, name: str) -> str:
        return f"{self._settings.name_prefix}{name}"

    def _ids(self, jobs: Sequence[ManagedJob]) -> list[int]:
        return sorted(job.job_id for job in jobs if job.job_id is not None)

    def _new(self, name: str, config: Mapping[str, Any]) -> ManagedJob:
        earlier = self._jobs.get(name)
        count = int(earlier.handle.id.partition("#")[2] or 1) + 1 if earlier else 1
        handle = JobHandle(name, name if count == 1 else f"{name}#{count}")
        self._jobs[name] = ManagedJob(handle, self._full(name), config, Ledger(self._prices))
        return self._jobs[name]

    def _attach(self, name: str, record: Record) -> ManagedJob:
        known = self._jobs.get(name)
        if known is not None and not known.status.state.final:
            return known  # this one, or one whose launch is about to say so
        job = self._new(name, self._config)
        job.attach(record, self._client.dashboard(int(record["job_id"])), self._clock())
        return job
