"""The driver: takes the partitions of one run from wherever they are to committed or failed.

It knows neither Dagster nor SkyPilot. The lake says what is done; the backend says what is running.
"""

import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from embed_assets.drive.adoption import CommittedBefore
from embed_assets.drive.events import Committed, Failed, Note, Outcome, Plan, Watch
from embed_assets.drive.outages import MAX_BACKOFF, UNAVAILABLE, Outages, Stopped
from embed_assets.drive.progress import ProgressLine
from embed_worker.lake import failpoints
from embed_worker.lake.errors import StoreUnavailable
from embed_worker.lake.manifests import BadManifest, ShardManifest
from embed_worker.lake.parallel import in_parallel
from resources.compute import Compute, ComputeUnavailable, JobHandle, JobState, JobStatus
from resources.lake import LakeResource

__all__ = ["Committed", "Driver", "Failed", "Note", "Outcome", "Plan", "Stopped", "Watch"]

T = TypeVar("T")

NOTICES_TOLD = 5
"""Of those that come with one poll."""


@dataclass
class _Open:
    plan: Plan
    handle: JobHandle
    since: float
    status: JobStatus = field(default_factory=lambda: JobStatus(JobState.QUEUED))
    ended_uncommitted: bool = False
    told: str = ""


class Driver:
    """Adopts, attaches, submits, polls, retries. Iterate over `run()`; each partition comes once."""

    def __init__(
        self,
        lake: LakeResource,
        compute: Compute,
        plans: Sequence[Plan],
        *,
        max_attempts: int = 3,
        watch: Watch | None = None,
        alive: Callable[[], bool] = lambda: True,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._lake, self._compute, self._plans = lake, compute, plans
        self._watch = watch
        self._max_attempts, self._alive, self._clock, self._sleep = max_attempts, alive, clock, sleep
        self._outages = Outages(compute.poll_seconds, alive, clock, sleep)
        self._open: dict[str, _Open] = {}
        self._waiting: list[tuple[float, Plan]] = []  # (not before, plan)
        self._attempts: dict[str, int] = {}
        self._committed_before = CommittedBefore(lake, self._outages)
        self._committed = self._failed = 0
        # Names that may have a job of which this run does not know; at first, of an earlier run that died.
        self._unsure = {plan.name for plan in plans} if compute.outlives_driver else set[str]()
        self._progress = ProgressLine(sum(plan.job.input.rows for plan in plans), clock())

    @property
    def open_handles(self) -> list[JobHandle]:
        """Jobs that have not ended, as far as known."""
        return [entry.handle for entry in self._open.values()]

    def cancel(self) -> int:
        """Stops the open jobs, and those that may be there without this run's knowledge; their number.

        May raise ComputeUnavailable.
        """
        handles = self.open_handles
        if self._unsure:
            handles += self._compute.find(sorted(self._unsure)).values()
        self._compute.cancel(handles)
        return len(handles)

    def until_answered(self, ask: Callable[[], T]) -> Generator[Note, None, T]:
        """For the caller's own questions to the lake: asks until there is an answer."""
        return self._outages.until_answered("record", ask)

    def run(self) -> Iterator[Outcome]:
        """Raises Stopped when `alive` says so."""
        self._waiting = [(0.0, plan) for plan in (yield from self._committed_before.sort(self._plans))]
        if self._waiting:
            yield from self._attach()
        looked = self._clock()
        while self._waiting or self._open or self._committed_before.unproved:
            yield from self._submit()
            asked = "poll" if self._open else "submit"
            next_look = looked + max(self._compute.poll_seconds, self._outages.backoff(asked))
            idle = not (self._waiting or self._open)
            yield from self._adopt(next_look)
            if not idle:
                self._sleep(max(0.0, next_look - self._clock()))
                if not self._alive():
                    raise Stopped
            looked = self._clock()
            if idle:
                continue  # what is to be made anew is submitted at once
            yield from self._poll()
            yield from self._summary()

    def _adopt(self, until: float) -> Iterator[Outcome]:
        """Proves what was committed before this run; with jobs to look after, no longer than `until`."""
        while self._committed_before.unproved:
            busy = bool(self._open or self._waiting)
            if busy and (self._clock() >= until or self._outages.not_yet("look")):
                return
            if not self._alive():
                raise Stopped
            proved = yield from self._committed_before.prove()
            if proved is None:
                if not busy:
                    self._sleep(self._outages.backoff("look"))
                continue
            plan, manifest = proved
            if manifest is None:
                self._waiting.append((0.0, plan))
                continue
            self._unsure.discard(plan.name)
            self._committed += 1
            self._progress.adopted(plan.job.input.rows)
            failpoints.reach("driver.adopted")
            yield Committed(plan.key, manifest, None, 0)

    def _attach(self) -> Iterator[Outcome]:
        if not self._compute.outlives_driver:
            return
        plans = {plan.name: plan for _, plan in self._waiting}
        live = yield from self._outages.until_answered("poll", lambda: self._compute.find(list(plans)))
        self._unsure = {plan.name for plan in self._committed_before.unproved}
        for name, handle in live.items():
            plan = plans[name]
            self._attempts[plan.key] = 1
            self._open[plan.key] = _Open(plan, handle, self._clock())
        self._waiting = [(at, plan) for at, plan in self._waiting if plan.key not in self._open]
        if live:
            yield Note(f"attached to {len(live)} jobs that were already running")

    def _submit(self) -> Iterator[Outcome]:
        now = self._clock()
        if self._outages.not_yet("submit"):
            return
        if self._watch and self._waiting:
            running = [(entry.plan, entry.status) for entry in self._open.values()]
            try:
                refusal = self._watch.refuse([plan for _, plan in self._waiting], running)
            except StoreUnavailable as error:
                yield from self._outages.unanswered("submit", error)
                return
            if refusal is not None:
                yield from self._refuse(*refusal)
                return
        due = [plan for at, plan in self._waiting if at <= now][: max(0, self._compute.slots - len(self._open))]
        for plan in due:
            try:
                handle = self._compute.find([plan.name]).get(plan.name) if plan.name in self._unsure else None
                if handle is None:
                    url = self._lake.write_job(plan.job)
                    failpoints.reach("driver.job_file")
                    self._unsure.add(plan.name)  # until the answer is here, the job may exist
                    handle = self._compute.submit(plan.name, plan.job, url)
                    failpoints.reach("driver.submitted")
            except UNAVAILABLE as error:
                yield from self._outages.unanswered("submit", error)
                return
            yield from self._outages.answered("submit")
            self._unsure.discard(plan.name)
            self._attempts[plan.key] = self._attempts.get(plan.key, 0) + 1
            self._open[plan.key] = _Open(plan, handle, self._clock())
            self._waiting = [(at, other) for at, other in self._waiting if other is not plan]

    def _refuse(self, short: str, figures: str) -> Iterator[Outcome]:
        """What runs goes on; what waits is not launched."""
        yield Note(figures, warning=True)
        for _, plan in self._waiting:
            self._failed += 1
            yield Failed(plan.key, f"not launched: {short}", "", self._attempts.get(plan.key, 0))
        self._waiting = []

    def _poll(self) -> Iterator[Outcome]:
        if not self._open:
            return
        try:
            statuses = self._compute.poll([entry.handle for entry in self._open.values()])
        except ComputeUnavailable as error:
            yield from self._outages.unanswered("poll", error)
            statuses = {}
        else:
            yield from self._outages.answered("poll")
        notices = []
        for entry in self._open.values():
            entry.status = statuses.get(entry.handle, entry.status)
            if entry.status.notice and entry.status.notice != entry.told:
                entry.told = entry.status.notice
                notices.append(f"{entry.plan.key}: {entry.told}")
        if notices:
            more = f"\n… and {len(notices) - NOTICES_TOLD} more" if len(notices) > NOTICES_TOLD else ""
            yield Note("\n".join(notices[:NOTICES_TOLD]) + more, warning=True)
        if self._watch:
            self._watch.running([(entry.plan, entry.status) for entry in self._open.values()])
        failpoints.reach("driver.polled")
        looked = yield from self._look_for_manifests()
        begun = self._clock()
        for entry, manifest in looked:
            if self._clock() - begun > self._compute.poll_seconds:
                return  # many were committed at once: new jobs and the next poll do not wait until all are recorded
            if manifest is not None:
                failpoints.reach("driver.seen")
                del self._open[entry.plan.key]
                self._committed += 1
                self._progress.done(entry.plan.job.input.rows)
                elapsed = self._clock() - entry.since
                if self._watch:
                    self._watch.ended(entry.plan, entry.handle, entry.status, committed=True)
                yield Committed(entry.plan.key, manifest, entry.status, self._attempts[entry.plan.key], elapsed)
            elif entry.status.state.final:
                yield from self._ended(entry)

    def _look_for_manifests(self) -> Generator[Outcome, None, list[tuple[_Open, ShardManifest | None]]]:
        """Of the open jobs; without those of which the lake does not say whether they are committed."""
        if self._outages.not_yet("look"):
            return []
        not_begun = (JobState.QUEUED, JobState.STARTING)
        entries = [entry for entry in self._open.values() if entry.status.state not in not_begun]
        if not entries:
            return []

        def look(entry: _Open) -> ShardManifest | StoreUnavailable | None:
            try:
                return self._lake.shard(entry.plan.job.output)
            except BadManifest as error:
                entry.status = JobStatus(JobState.REFUSED, str(error), entry.status.facts)
                return None
            except StoreUnavailable as error:
                return error

        answers = list(zip(entries, in_parallel(look, entries), strict=True))
        faults = [answer for _, answer in answers if isinstance(answer, StoreUnavailable)]
        yield from self._outages.unanswered("look", faults[0]) if faults else self._outages.answered("look")
        return [(entry, answer) for entry, answer in answers if not isinstance(answer, StoreUnavailable)]

    def _ended(self, entry: _Open) -> Iterator[Outcome]:
        """A job is over and there is no manifest."""
        state, detail = entry.status.state, entry.status.detail
        if state is JobState.SUCCEEDED:
            if not entry.ended_uncommitted:
                entry.ended_uncommitted = True  # the manifest may have come between poll and look
                return
            detail = "the job says it succeeded, but there is no manifest in the lake"
        key, plan = entry.plan.key, entry.plan
        attempts = self._attempts[key]
        log = self._log_of(entry.handle)
        del self._open[key]
        if self._watch:
            self._watch.ended(plan, entry.handle, entry.status, committed=False)
        if state in (JobState.REFUSED, JobState.CANCELLED) or attempts >= self._max_attempts:
            self._failed += 1
            if state is JobState.CANCELLED:
                detail = f"the job was cancelled outside of this run. {detail}".strip()
            yield Failed(key, detail or "the job failed without saying why", log, attempts)
            return
        delay = min(self._compute.poll_seconds * 2**attempts, MAX_BACKOFF)
        self._waiting.append((self._clock() + delay, plan))
        yield Note(f"{key}: attempt {attempts} of {self._max_attempts} failed: {detail}; trying again", warning=True)

    def _log_of(self, handle: JobHandle) -> str:
        try:
            return self._compute.logs(handle)
        except ComputeUnavailable as error:
            return f"(no log: {error})"

    def _summary(self) -> Iterator[Outcome]:
        states = Counter[str](committed=self._committed, waiting=len(self._waiting))
        states.update(str(entry.status.state) for entry in self._open.values())
        states["failed"] = self._failed
        line = self._progress.line(self._clock(), states.items(), len(self._plans))
        if line is not None:
            yield Note(line)
