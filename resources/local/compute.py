"""The embedded backend: worker processes on this machine, each with its engine loaded once."""

import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from embed_worker.exits import ExitCode
from embed_worker.lake.job import EmbedJob
from embed_worker.lake.spec import EmbeddingSpec
from resources.compute import JobHandle, JobState, JobStatus
from resources.facts import JobFacts
from resources.local.process import LIMITS, Limits, WorkerProcess

STATES = {ExitCode.DONE: JobState.SUCCEEDED, ExitCode.BAD_JOB: JobState.REFUSED}

MAX_PAUSE = 60.0
LAKE_PATIENCE = 1200.0
"""Seconds of pauses that a job may take, in all its attempts, for a lake that its worker cannot read or write."""


@dataclass(eq=False)
class _Job:
    handle: JobHandle
    url: str
    spec: EmbeddingSpec
    status: JobStatus = field(default_factory=lambda: JobStatus(JobState.QUEUED))
    log: str = ""
    not_before: float = 0.0


@dataclass(eq=False)
class _Seat:
    """A worker process, the spec it has loaded, and the job it has in hand."""

    process: WorkerProcess
    spec: EmbeddingSpec
    job: _Job | None = None


class LocalCompute:
    """Queues jobs and gives each free worker the next one. All of it happens inside the driver's calls."""

    outlives_driver = False

    def __init__(
        self,
        python: str,
        workers: int,
        poll_seconds: float,
        log_folder: Path,
        limits: Limits = LIMITS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._python, self._limits, self._clock = python, limits, clock
        self._workers = workers
        self._log_folder = log_folder
        self._jobs: dict[JobHandle, _Job] = {}
        self._queue: deque[_Job] = deque()
        self._seats: list[_Seat] = []
        self._started = 0
        self._paused: dict[str, float] = {}  # job name → seconds, also of its earlier attempts
        self.poll_seconds = poll_seconds
        self.slots = 2 * workers  # one in hand, one waiting, so that a worker never idles for a poll

    def advice(self, jobs: int) -> Sequence[str]:
        return ()

    def submit(self, name: str, job: EmbedJob, url: str) -> JobHandle:
        if live := self.find([name]).get(name):
            return live
        entry = _Job(JobHandle(name, f"{name}#{len(self._jobs)}"), url, job.spec)
        self._jobs[entry.handle] = entry
        self._queue.append(entry)
        self._advance()
        return entry.handle

    def find(self, names: Sequence[str]) -> dict[str, JobHandle]:
        live = (job for job in self._jobs.values() if not job.status.state.final)
        return {job.handle.name: job.handle for job in live if job.handle.name in names}

    def poll(self, handles: Sequence[JobHandle]) -> dict[JobHandle, JobStatus]:
        self._advance()
        return {handle: self._jobs[handle].status for handle in handles}

    def cancel(self, handles: Sequence[JobHandle]) -> None:
        jobs = [job for job in map(self._jobs.__getitem__, handles) if not job.status.state.final]
        ids = {id(job) for job in jobs}
        self._queue = deque(job for job in self._queue if id(job) not in ids)
        self._stop([seat for seat in self._seats if seat.job is not None and id(seat.job) in ids])
        for job in jobs:
            job.status = JobStatus(JobState.CANCELLED, "cancelled", job.status.facts)

    def logs(self, handle: JobHandle, lines: int = 100) -> str:
        job = self._jobs[handle]
        seat = next((seat for seat in self._seats if seat.job is job), None)
        return seat.process.tail(lines) if seat else (job.log or "(the job never started)")

    def close(self) -> None:
        self._stop(list(self._seats))

    def _stop(self, seats: list[_Seat]) -> None:
        """All at once: each may take its time to go."""
        if not seats:
            return
        with ThreadPoolExecutor(len(seats)) as pool:
            list(pool.map(lambda seat: seat.process.stop(), seats))
        self._seats = [seat for seat in self._seats if seat not in seats]

    def _advance(self) -> None:
        """Takes the workers' answers, notices dead ones, hands out the next jobs."""
        for seat in list(self._seats):
            leaving = self._take_answers(seat)
            if (death := seat.process.death()) is not None:
                self._take_answers(seat)
                self._settle(seat, JobState.FAILED, death)
            if leaving or death is not None:  # one that leaves takes no other job, though it still lives
                seat.process.stop()
                self._seats.remove(seat)
        due = [job for job in self._queue if job.not_before <= self._clock()]
        while due and (free := self._free_seat(due[0].spec)) is not None:
            job = due.pop(0)
            self._queue.remove(job)
            free.job = job
            job.status = JobStatus(JobState.RUNNING, facts=JobFacts(worker_pid=free.process.pid))
            try:
                free.process.send({"job": job.url})
            except OSError:
                continue  # dead: the next poll says how

    def _take_answers(self, seat: _Seat) -> bool:
        """True where the process has said that it is leaving."""
        leaving = False
        while (answer := seat.process.answer()) is not None:
            if not (answer.get("lake_away") and self._pause(seat, answer["error"])):
                self._settle(seat, STATES.get(answer["code"], JobState.FAILED), answer["error"] or "")
            leaving = leaving or bool(answer.get("leaving"))
        return leaving

    def _pause(self, seat: _Seat, error: str) -> bool:
        """Puts the job back: a lake that is away says nothing of it. False where its patience is used up."""
        if (job := seat.job) is None or (paused := self._paused.get(job.handle.name, 0.0)) >= LAKE_PATIENCE:
            return False
        pause = min(max(1.0, paused), MAX_PAUSE)  # about doubles
        self._paused[job.handle.name], job.not_before = paused + pause, self._clock() + pause
        notice = f"the worker cannot read or write the lake ({error}); it goes on when it can"
        self._settle(seat, JobState.RECOVERING, error, notice)
        self._queue.append(job)
        return True

    def _settle(self, seat: _Seat, state: JobState, detail: str, notice: str = "") -> None:
        if seat.job is None:
            return
        job, seat.job = seat.job, None
        job.log = seat.process.tail(100)
        job.status = JobStatus(state, detail, job.status.facts, notice=notice)

    def _free_seat(self, spec: EmbeddingSpec) -> _Seat | None:
        free = [seat for seat in self._seats if seat.job is None]
        for seat in free:
            if seat.spec == spec:
                return seat
        if len(self._seats) >= self._workers:
            if not free:
                return None
            self._seats.remove(free[0])  # it has another model loaded
            free[0].process.stop()
        self._started += 1
        process = WorkerProcess(self._python, self._log_folder / f"worker-{self._started}.log", self._limits)
        seat = _Seat(process, spec)
        self._seats.append(seat)
        return seat
