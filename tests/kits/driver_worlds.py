"""The worlds of the driver's state machine: a model backend, and the SkyPilot backend on a fake API server."""

from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from embed_worker.lake.job import EmbedJob
from resources.compute import Compute, ComputeUnavailable, JobHandle, JobState, JobStatus
from tests.kits.driver import FakeCompute
from tests.kits.driver_world import LAKE_FAULTS, World
from tests.kits.skypilot_fake import TERMINAL, ApiServerConnectionError, Bench, Clock, FakeSky


class Fleet(FakeCompute):
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
        self.fleet = Fleet(self.lake, slots=slots)
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


class StepSky(FakeSky):
    """Launch requests may stay in flight: their jobs are made later, or never where the server forgets them."""

    slow = False

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.doubled: list[str] = []
        self.waiting: dict[str, str] = {}  # request → job name
        self.landed: dict[str, int] = {}

    def launch(self, task: dict[str, Any], name: str, pool: str | None, job_group: None) -> Any:
        if not self.slow or self.down or self.lose:
            return super().launch(task, name, pool, job_group)
        self._ask("launch")
        request = f"slow-{len(self.calls)}-{name}"
        self.waiting[request] = name
        self.pending_launch(name).request_id = request
        return request

    def add(self, name: str, status: str = "PENDING", **fields: Any) -> dict[str, Any]:
        if any(row["job_name"] == name and row["status"] not in TERMINAL for row in self.rows):
            self.doubled.append(name)
        return super().add(name, status, **fields)

    def land(self, forget: bool) -> None:
        for request, name in self.waiting.items():
            if not forget:
                self.landed[request] = self.add(name)["job_id"]
        self.waiting.clear()
        self.in_flight.clear()

    def get(self, request: Any) -> Any:
        if not (isinstance(request, str) and request.startswith("slow-")):
            return super().get(request)
        self._ask("get")
        if request not in self.landed:
            raise ApiServerConnectionError("Failed to get request: no answer yet")
        return [self.landed[request]], None


class Deferred:
    """Launch threads whose work is done while the driver sleeps, in order: the same example always goes alike."""

    def __init__(self) -> None:
        self.work: list[tuple[Future[Any], Callable[[], Any]]] = []

    def submit(self, work: Callable[[], Any]) -> Future[Any]:
        self.work.append((Future(), work))
        return self.work[-1][0]

    def run(self) -> None:
        while self.work:
            future, work = self.work.pop(0)
            future.set_result(work())

    def close(self) -> None:
        pass


class SkyPilotWorld(World):
    faults = ("lose answer", "lose request", "lose post", "slow", "land", "forget", "down", "up", *LAKE_FAULTS)
    moves = (
        *("STARTING", "RUNNING", "RUNNING", "RECOVERING", "SUCCEEDED", "FAILED", "FAILED", "FAILED"),
        *("FAILED_NO_RESOURCE", "FAILED_SETUP", "CANCELLED", "exit 65"),
    )
    success = "SUCCEEDED"

    def __init__(self, folder: Path, strides: int, slots: int) -> None:
        super().__init__(folder, strides, slots)
        self.bench = Bench(max_concurrent_jobs=slots)
        self.threads = Deferred()
        self.sky = self.bench.sky = StepSky(self.bench.clock)
        self.sky.doubled = self.doubled
        self.foreign = [self.sky.add(name, "RUNNING") for name in self.others()]
        self.now = self.bench.clock  # type: ignore[method-assign]

    def compute(self) -> Compute:
        self.bench.compute = self.bench.new_process()
        self.bench.compute._threads = self.threads = Deferred()  # type: ignore[assignment]
        return self.bench.compute

    def pass_time(self, seconds: float) -> None:
        self.threads.run()
        self.bench.clock.sleep(seconds)

    def live(self) -> list[dict[str, Any]]:
        rows = self.sky.rows[len(self.foreign) :]
        return [row for row in rows if row["status"] not in TERMINAL]

    def foreign_states(self) -> set[str]:
        return {row["status"] for row in self.foreign}

    def name(self, job: dict[str, Any]) -> str:
        return str(job["job_name"])

    def move(self, job: dict[str, Any], state: str) -> None:
        if state == "exit 65":
            job |= {"status": "FAILED", "failure_reason": "Job exited with exit code 65"}
        elif state == "RUNNING":
            self.sky.run(job)
        else:
            job |= {"status": state.upper(), "failure_reason": None}

    def arm_backend(self, fault: str) -> None:
        what, _, how = fault.partition(" ")
        if what == "lose":
            self.sky.lose = how
        elif what in ("land", "forget"):
            self.sky.land(forget=what == "forget")
        elif what == "slow":
            self.sky.slow = True
        else:
            self.sky.down = what == "down"
            self.sky.lose, self.sky.slow = "", False

    def mend_backend(self) -> None:
        self.arm("land")
        self.arm("up")
