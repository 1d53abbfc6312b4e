"""The world of the driver's state machine with a backend that is a model of one."""

from pathlib import Path
from typing import Any

from embed_worker.lake.job import EmbedJob
from resources.compute import Compute, ComputeUnavailable, JobHandle, JobState, JobStatus
from tests.kits.drive.bench import FakeCompute
from tests.kits.drive.world import LAKE_FAULTS, World


class ModelFleet(FakeCompute):
    """Says so where a name gets a second live job; cancels when told."""

    def submit(self, name: str, job: EmbedJob, url: str) -> JobHandle:
        if self.live(name):
            self.doubled.append(name)
        return super().submit(name, job, url)

    def cancel(self, handles: Any) -> None:
        if not self.on_ask("cancel"):
            raise ComputeUnavailable("bad gateway")
        for handle in handles:
            if not self.jobs[handle].state.final:
                self.jobs[handle] = JobStatus(JobState.CANCELLED)

    doubled: list[str]


class ModelWorld(World):
    faults = (
        "submit lost after",
        "submit lost after",
        "submit lost after",
        "submit lost before",
        "find",
        "poll",
        "logs",
        *LAKE_FAULTS,
    )
    moves = (
        *("starting", "running", "running", "recovering", "succeeded", "failed", "failed", "failed"),
        *("refused", "cancelled"),
    )
    success = "succeeded"

    def __init__(self, folder: Path, strides: int, slots: int) -> None:
        super().__init__(folder, strides, slots)
        self.clock = 0.0
        self.fleet = ModelFleet(self.lake, slots=slots)
        self.fleet.doubled = self.doubled
        self.armed: list[str] = []
        self.foreign = [self.fleet.start(name, JobState.RUNNING) for name in self.others()]
        self.fleet.on_ask = lambda what: not self._take(what)
        self.fleet.on_submit = self._submit_answer

    def _take(self, fault: str) -> bool:
        if fault in self.armed:
            self.armed.remove(fault)
            return True
        return False

    def _submit_answer(self) -> str:
        return next((a for a in ("lost before", "lost after") if self._take(f"submit {a}")), "yes")

    def now(self) -> float:
        return self.clock

    def pass_time(self, seconds: float) -> None:
        self.clock += seconds

    def compute(self) -> Compute:
        return self.fleet  # type: ignore[return-value]

    def live(self) -> list[JobHandle]:
        return [h for h, status in self.fleet.jobs.items() if not status.state.final and h not in self.foreign]

    def foreign_states(self) -> set[str]:
        return {str(self.fleet.jobs[handle].state).upper() for handle in self.foreign}

    def name(self, job: JobHandle) -> str:
        return job.name

    def move(self, job: JobHandle, state: str) -> None:
        self.fleet.jobs[job] = JobStatus(JobState(state), f"it is {state}")

    def arm_backend(self, fault: str) -> None:
        self.armed.append(fault)

    def mend_backend(self) -> None:
        self.armed.clear()
