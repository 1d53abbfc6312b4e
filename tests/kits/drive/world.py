"""What the driver's state machine is played in: a run that moves step by step, a lake that goes away, a witness.

The driver runs in a thread that moves only while the test waits for it: from one sleep to the next.
"""

import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from embed_assets.checks.proof import Proof
from embed_assets.drive.driver import Driver
from embed_assets.drive.events import Committed, Failed, Outcome
from embed_assets.drive.outages import Stopped
from embed_worker.lake.errors import BadManifest
from embed_worker.lake.job import EmbedJob
from resources.compute import Compute, JobHandle, JobState, JobStatus
from resources.lake import Lake
from tests.kits.drive.bench import AtOnce, job_of
from tests.kits.lake.away import AwayLake

LIMIT = 30.0
"""Seconds of real time that a step may take: for a broken test."""
CALLS = ("find", "submit", "poll")
LAKE_FAULTS = ("lake down", "lake down embedding_shards/", "lake down jobs/", "lake down 00000", "lake up", "lake up")
"""What of the lake does not answer: all, or the paths with these words in them."""


class Crash(BaseException):
    """The Dagster process is gone."""


class Run:
    """One life of a driver."""

    def __init__(self, driver_of: Callable[[Callable[[float], None], Callable[[], bool]], Driver]) -> None:
        self.wanted, self.crash, self.over = True, False, False
        self.outcomes: list[Outcome] = []
        self.end: BaseException | None = None
        self.driver = driver_of(self._sleep, lambda: self.wanted)
        self._go, self._back = threading.Semaphore(0), threading.Semaphore(0)
        threading.Thread(target=self._main, daemon=True).start()

    def step(self) -> list[Committed | Failed]:
        """On to the next sleep, or to the end; what was reported meanwhile."""
        before = len(self.outcomes)
        self._go.release()
        assert self._back.acquire(timeout=LIMIT), "the driver hangs"
        if self.end is not None and not isinstance(self.end, Crash | Stopped):
            raise self.end
        return [o for o in self.outcomes[before:] if isinstance(o, Committed | Failed)]

    def _sleep(self, seconds: float) -> None:
        self._back.release()
        self._go.acquire()
        if self.crash:
            raise Crash

    def _main(self) -> None:
        self._go.acquire()
        try:
            for outcome in self.driver.run():
                self.outcomes.append(outcome)
        except BaseException as error:
            self.end = error
        self.over = True
        self._back.release()


class Witness:
    """Between one driver and its backend: knows what the driver was told, and what it must not ask then."""

    def __init__(self, compute: Compute, die: Callable[[str], None], committed: Callable[[str], bool]) -> None:
        self._compute, self._die, self._committed = compute, die, committed
        self.poll_seconds, self.slots, self.outlives_driver = compute.poll_seconds, compute.slots, True
        self.logs, self.advice = compute.logs, compute.advice
        self.open: set[str] = set()
        """Names of jobs that the driver knows and was not told to be over."""
        self.ends: dict[str, list[JobState]] = defaultdict(list)
        """How the jobs of a name ended, as the driver was told."""
        self.reported: set[str] = set()
        self.may_cancel = False

    def submit(self, name: str, job: EmbedJob, url: str) -> JobHandle:
        assert name not in self.open, f"{name} is submitted again while its job goes on"
        assert name not in self.reported, f"{name} is submitted after it was reported"
        assert sum(not self._committed(one) for one in self.open) < self.slots, "more jobs than slots"
        self._die("before submit")
        handle = self._compute.submit(name, job, url)
        self.open.add(name)
        self._die("after submit")
        return handle

    def find(self, names: Sequence[str]) -> dict[str, JobHandle]:
        self._die("before find")
        found = self._compute.find(names)
        self.open.update(found)
        self._die("after find")
        return found

    def poll(self, handles: Sequence[JobHandle]) -> dict[JobHandle, JobStatus]:
        asked = {handle.name for handle in handles}
        assert len(asked) == len(handles)
        assert all(name in asked or self._committed(name) for name in self.open), "open jobs are not asked for"
        self._die("before poll")
        statuses = self._compute.poll(handles)
        for handle, status in statuses.items():
            if status.state.final and handle.name in self.open:
                self.open.remove(handle.name)
                self.ends[handle.name].append(status.state)
        self._die("after poll")
        return statuses

    def cancel(self, handles: Sequence[JobHandle]) -> None:
        assert self.may_cancel, "jobs of a run that nobody cancelled are cancelled"
        self._compute.cancel(handles)


class World:
    """Partitions, a lake and a backend. Jobs are the backend's own; faults are armed by name."""

    faults: tuple[str, ...]
    moves: tuple[str, ...]
    success: str

    def __init__(self, folder: Path, strides: int, slots: int) -> None:
        self.lake = Lake(root=str(folder))
        self.drivers_lake = AwayLake(root=str(folder))
        self.jobs: list[EmbedJob] = [job_of(self.lake, stride) for stride in range(strides)]
        self.crash_at = ""
        """"before submit", "after poll" …: the next such call is the process's last."""
        self.doubled: list[str] = []
        self.witness: Witness

    def job_of(self, name: str) -> EmbedJob:
        return next(p for p in self.jobs if name.endswith(p.name))

    def valid(self, name: str) -> bool:
        """Whether a job's partition is committed, from the job's own input."""
        job = self.job_of(name)
        try:
            manifest = self.lake.shard(job.shard)
        except BadManifest:
            return False
        return manifest is not None and manifest.input.digest == job.input.digest

    def others(self) -> list[str]:
        """Names of jobs that are nobody's business here."""
        return [f"{self.jobs[0].name}-other", f"other-{self.jobs[0].name}-too"]

    def start(self, attempts: int) -> Run:
        self.witness = Witness(self.compute(), self._die, self.valid)

        def driver_of(sleep: Callable[[float], None], alive: Callable[[], bool]) -> Driver:
            return Driver(
                self.drivers_lake, self.witness, self.jobs, max_attempts=attempts, alive=alive, clock=self.now,
                sleep=lambda seconds: (self.pass_time(seconds), sleep(seconds))[0],
                tell=lambda text, *, warning=False: None, prove=lambda job, manifest: Proof(), provers=AtOnce(),
            )  # fmt: skip

        return Run(driver_of)

    def arm(self, fault: str) -> None:
        if fault.startswith("lake "):
            self.drivers_lake.store.away = fault.removeprefix("lake down").strip() if "down" in fault else None
        else:
            self.arm_backend(fault)

    def peace(self) -> None:
        """No more faults."""
        self.arm("lake up")
        self.mend_backend()
        self.crash_at = ""

    def _die(self, at: str) -> None:
        if self.crash_at == at:
            self.crash_at = ""
            raise Crash

    def now(self) -> float:
        raise NotImplementedError

    def pass_time(self, seconds: float) -> None:
        raise NotImplementedError

    def compute(self) -> Compute:
        raise NotImplementedError

    def live(self) -> list[Any]:
        raise NotImplementedError

    def foreign_states(self) -> set[str]:
        raise NotImplementedError

    def name(self, job: Any) -> str:
        raise NotImplementedError

    def move(self, job: Any, state: str) -> None:
        raise NotImplementedError

    def arm_backend(self, fault: str) -> None:
        raise NotImplementedError

    def mend_backend(self) -> None:
        raise NotImplementedError
