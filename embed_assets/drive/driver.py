"""The driver: takes the partitions of one run from wherever they are to committed or failed.

It knows neither Dagster nor SkyPilot. The lake says what is done; the backend says what is running.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor

from embed_assets.checks.proof import Prove
from embed_assets.drive.adoption import Found
from embed_assets.drive.breaker import Breaker
from embed_assets.drive.composing import Composing
from embed_assets.drive.events import Budget, Committed, Failed, Outcome, Refusal, Tell, Unlimited
from embed_assets.drive.open_jobs import OpenJob, take_statuses
from embed_assets.drive.outages import MAX_BACKOFF, UNAVAILABLE, Outages, Stopped, patiently
from embed_assets.drive.progress import ProgressLine
from embed_assets.drive.proving import Proving, Seen
from embed_worker.lake import failpoints
from embed_worker.lake.errors import BadManifest, StoreUnavailable
from embed_worker.lake.job import EmbedJob
from embed_worker.lake.parallel import in_parallel
from resources.compute import Compute, ComputeUnavailable, JobHandle, JobState, JobStatus
from resources.lake import Lake


class Driver:
    """Adopts, attaches, submits, polls, proves, retries. Iterate over `run()`; each job comes once."""

    def __init__(
        self,
        lake: Lake,
        compute: Compute,
        jobs: Sequence[EmbedJob],
        *,
        prove: Prove,
        tell: Tell,
        max_attempts: int = 3,
        budget: Budget | None = None,
        alive: Callable[[], bool] = lambda: True,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        provers: Executor | None = None,
    ) -> None:
        self._lake, self._compute, self._jobs, self._tell = lake, compute, jobs, tell
        self._budget = budget or Unlimited()
        self._max_attempts, self._alive, self._clock, self._sleep = max_attempts, alive, clock, sleep
        self._outages = Outages(compute.poll_seconds, tell, alive, clock, sleep)
        self._open: dict[str, OpenJob] = {}
        self._waiting: list[tuple[float, EmbedJob]] = []  # (not before, job)
        self._attempts: dict[str, int] = {}
        self._proving = Proving(lake, prove, self._outages, provers)
        self._composing = Composing(lake, tell)
        self._committed = self._failed = self._adopted = self._unadopted = 0
        # Names that may have a job of which this run does not know; at first, of an earlier run that died.
        self._unsure = {job.name for job in jobs} if compute.outlives_driver else set[str]()
        self._held_up = False  # by the budget
        self._breaker = Breaker()
        self._progress = ProgressLine(sum(job.input.rows for job in jobs), clock())

    @property
    def open_handles(self) -> list[JobHandle]:
        """Jobs that have not ended, as far as known."""
        return [entry.handle for entry in self._open.values()]

    def cancel(self) -> int:
        """Stops the open jobs, and those that this run does not know of; their number. May raise ComputeUnavailable."""
        handles = self.open_handles
        if self._unsure:
            handles += patiently(lambda: self._compute.find(sorted(self._unsure)), self._sleep).values()
        self._compute.cancel(handles)
        for entry in self._open.values():
            self._budget.ended(entry.job, entry.handle, entry.status, committed=False)
        return len(handles)

    def run(self) -> Iterator[Outcome]:
        """Raises Stopped when `alive` says so."""
        try:
            self._sort()
            if self._waiting:
                self._attach()
                for advice in self._compute.advice(len(self._waiting)):
                    self._tell(advice, warning=True)
            looked = self._clock()
            while self._waiting or self._open or self._proving or self._composing:
                self._waiting = self._composing.take(self._waiting)
                yield from self._submit()
                asked = "poll" if self._open else "submit"
                yield from self._rest(looked + max(self._compute.poll_seconds, self._outages.backoff(asked)))
                looked = self._clock()
                self._poll()
                yield from self._ends()
                self._summary()
        finally:
            self._proving.close()
            self._composing.close()
            self._budget.withdraw([job for _, job in self._waiting if job.name not in self._unsure])

    def _sort(self) -> None:
        """What has a manifest is adopted, whatever it is worth; the rest is to be made."""
        has_manifest = self._proving.has_manifest
        there = self._outages.until_answered("look", lambda: in_parallel(has_manifest, self._jobs))
        for job, found in zip(self._jobs, there, strict=True):
            if found:
                self._proving.add(Seen(job))
            else:
                self._waiting.append((0.0, job))
        self._unadopted = len(self._proving)

    def _rest(self, until: float) -> Iterator[Outcome]:
        """Between two polls: what was seen to be committed is proved and handed out."""
        composing = bool(self._composing)
        idle = not (self._waiting or self._open or composing)
        while True:
            self._take_composed()
            for seen, found in self._proving.verdicts():
                yield from self._proved(seen, found)
            left = until - self._clock()
            if (idle and (self._waiting or not self._proving)) or (composing and not self._composing):
                return  # what is to be made anew, or needs a job, is submitted at once
            if not self._alive():
                raise Stopped
            if left <= 0:
                return
            if self._composing:
                self._composing.wait(left)
            elif pause := self._proving.pause(left):
                self._sleep(pause)

    def _proved(self, seen: Seen, found: Found) -> Iterator[Outcome]:
        job = seen.job
        if seen.before:
            self._unadopted -= 1
            if found.manifest is not None:
                self._unsure.discard(job.name)
                self._adopted += 1
                self._committed += 1
                self._progress.adopted(job.input.rows)
                failpoints.reach("driver.adopted")
            else:
                if fault := found.proof.fault:
                    self._tell(f"{job.shard}: {fault}; its manifest is retired and it is made anew", warning=True)
                self._waiting.append((0.0, job))
            if self._adopted and not self._unadopted:
                self._tell(f"{self._adopted} partitions were committed already, adopted; their checks run again")
        elif found.manifest is None:  # composed here, and gone or damaged since
            self._committed -= 1
            self._waiting.append((0.0, job))
        if found.manifest is not None:
            yield Committed(job, found.manifest, found.proof, seen.status, seen.attempts, seen.elapsed)

    def _attach(self) -> None:
        if not self._compute.outlives_driver:
            return
        jobs = {job.name: job for _, job in self._waiting}
        live = self._outages.until_answered("poll", lambda: self._compute.find(list(jobs)))
        self._unsure = {job.name for job in self._proving.jobs()}
        for name, handle in live.items():
            job = jobs[name]
            self._attempts[job.shard.key] = 1
            self._open[job.shard.key] = OpenJob(job, handle, self._clock())
        self._waiting = [(at, job) for at, job in self._waiting if job.shard.key not in self._open]
        self._budget.launched([entry.job for entry in self._open.values()])
        if live:
            self._tell(f"attached to {len(live)} jobs that were already running")

    def _take_composed(self) -> None:
        for one in self._composing.ended():
            if one.done:
                self._unsure.discard(one.job.name)
                self._committed += 1
                self._progress.done(one.job.input.rows)
                self._proving.add(Seen(one.job, status=JobStatus(JobState.SUCCEEDED), elapsed=one.seconds))
            else:
                self._waiting.append((0.0, one.job))

    def _submit(self) -> Iterator[Outcome]:
        now = self._clock()
        if self._waiting and (why := self._breaker.why):
            yield from self._launch_no_more(why, "Mend that, and materialize them again; what runs goes on")
        if self._outages.not_yet("submit"):
            return
        due = [job for at, job in self._waiting if at <= now][: max(0, self._compute.slots - len(self._open))]
        if due:
            try:
                due, refusal = self._budget.reserve(due)
            except StoreUnavailable as error:
                self._outages.unanswered("submit", error)
                return
            if refusal is not None and not due and not self._open:
                yield from self._launch_no_more(refusal.short, "raise budget_usd, and materialize them again", refusal)
            elif refusal is not None and not self._held_up:
                self._tell(f"{refusal.figures}. What waits is asked for again as jobs end", warning=True)
            self._held_up = refusal is not None
        for job in due:
            try:
                handle = self._compute.find([job.name]).get(job.name) if job.name in self._unsure else None
                if handle is None:
                    url = self._lake.write_job(job)
                    failpoints.reach("driver.job_file")
                    self._unsure.add(job.name)  # until the answer is here, the job may exist
                    handle = self._compute.submit(job.name, job, url)
                    failpoints.reach("driver.submitted")
            except UNAVAILABLE as error:
                self._outages.unanswered("submit", error)
                return
            self._outages.answered("submit")
            self._unsure.discard(job.name)
            self._attempts[job.shard.key] = self._attempts.get(job.shard.key, 0) + 1
            self._open[job.shard.key] = OpenJob(job, handle, self._clock())
            self._waiting = [(at, other) for at, other in self._waiting if other is not job]
            self._budget.launched([job])

    def _launch_no_more(self, short: str, cure: str, refusal: Refusal | None = None) -> Iterator[Outcome]:
        """Of what waits: nothing runs whose end may leave room for it, or it would end as others did."""
        why, jobs = f"not launched: {short}", [job for _, job in self._waiting]
        launched = f"{sum(self._attempts.values())} jobs of this run were launched, {len(jobs)} partitions are not"
        self._tell(f"{refusal.figures if refusal else short}. {launched}: {cure}", warning=True)
        in_parallel(lambda job: self._lake.give_up(job, why), jobs)
        for job in jobs:
            self._failed += 1
            yield Failed(job, why, "", self._attempts.get(job.shard.key, 0))
        self._waiting = []

    def _poll(self) -> None:
        if not self._open:
            return
        try:
            statuses = self._compute.poll([entry.handle for entry in self._open.values()])
        except ComputeUnavailable as error:
            self._outages.unanswered("poll", error)
            statuses = {}
        else:
            self._outages.answered("poll")
        if notices := take_statuses(self._open.values(), statuses):
            self._tell(notices, warning=True)
        self._budget.running([(entry.job, entry.status) for entry in self._open.values()])
        failpoints.reach("driver.polled")

    def _ends(self) -> Iterator[Outcome]:
        """Of the jobs that are open: committed, or over without a manifest."""
        not_begun = (JobState.QUEUED, JobState.STARTING)
        entries = [entry for entry in self._open.values() if entry.status.state not in not_begun]
        for entry, manifest in self._proving.look(entries, lambda entry: entry.job):
            if isinstance(manifest, BadManifest):
                entry.status = JobStatus(JobState.REFUSED, str(manifest), entry.status.facts)
                manifest = None
            if manifest is not None:
                failpoints.reach("driver.seen")
                del self._open[entry.job.shard.key]
                self._committed += 1
                self._progress.done(entry.job.input.rows)
                self._budget.ended(entry.job, entry.handle, entry.status, committed=True)
                self._breaker.ended()
                attempts, elapsed = self._attempts[entry.job.shard.key], self._clock() - entry.since
                self._proving.add(Seen(entry.job, manifest, entry.status, attempts, elapsed))
            elif entry.status.state.final:
                yield from self._ended(entry)

    def _ended(self, entry: OpenJob) -> Iterator[Outcome]:
        """A job is over and there is no manifest."""
        state, detail = entry.status.state, entry.status.detail
        if state is JobState.SUCCEEDED:
            if not entry.ended_uncommitted:
                entry.ended_uncommitted = True  # the manifest may have come between poll and look
                return
            detail = "the job says it succeeded, but there is no manifest in the lake"
        job, key = entry.job, entry.job.shard.key
        attempts = self._attempts[key]
        log = self._log_of(entry.handle)
        del self._open[key]
        self._budget.ended(job, entry.handle, entry.status, committed=False)
        self._breaker.ended(entry.status.kind)
        final = state in (JobState.REFUSED, JobState.CANCELLED) or attempts >= self._max_attempts
        if final or self._breaker.why:
            self._failed += 1
            if state is JobState.CANCELLED:
                detail = f"the job was cancelled outside of this run. {detail}".strip()
            detail = detail or "the job failed without saying why"
            self._lake.give_up(job, detail)
            yield Failed(job, detail, log, attempts)
            return
        delay = min(self._compute.poll_seconds * 2**attempts, MAX_BACKOFF)
        self._waiting.append((self._clock() + delay, job))
        self._tell(f"{key}: attempt {attempts} of {self._max_attempts} failed: {detail}; trying again", warning=True)

    def _log_of(self, handle: JobHandle) -> str:
        try:
            return self._compute.logs(handle)
        except ComputeUnavailable as error:
            return f"(no log: {error})"

    def _summary(self) -> None:
        states = Counter[str](committed=self._committed, waiting=len(self._waiting))
        states.update(str(entry.status.state) for entry in self._open.values())
        states["failed"] = self._failed
        line = self._progress.line(self._clock(), states.items(), len(self._jobs))
        if line is not None:
            self._tell(line)
