"""Two worlds for the driver's state machine: a model backend, and the SkyPilot backend on a fake API server.

The driver runs in a thread that moves only while the test waits for it: from one sleep to the next.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from embed_assets.driver import Committed, Driver, Failed, Outcome, Plan, Stopped
from embed_worker.job import EmbedJob
from resources.compute import Compute, ComputeUnavailable, JobHandle, JobState, JobStatus
from resources.lake import LakeResource
from tests.platform.skypilot_fake import TERMINAL, ApiServerConnectionError, Bench, Clock, FakeSky
from tests.platform.test_driver import FakeCompute, plan

LIMIT = 30.0
"""Seconds of real time that a step may take: for a broken test."""
CALLS = ("find", "submit", "poll")


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


class World:
    """Partitions, a lake and a backend. Jobs are `(name, backend's own)`; faults are armed by name."""

    faults: tuple[str, ...]
    moves: tuple[str, ...]

    def __init__(self, folder: Path, strides: int, slots: int) -> None:
        self.lake = LakeResource(root=str(folder))
        self.plans: list[Plan] = [plan(self.lake, stride) for stride in range(strides)]
        self.crash_at = ""
        """"before submit", "after poll" …: the next such call is the process's last."""
        self.doubled: list[str] = []

    def plan_of(self, name: str) -> Plan:
        return next(p for p in self.plans if name.endswith(p.name))

    def start(self, attempts: int) -> Run:
        def driver_of(sleep: Callable[[float], None], alive: Callable[[], bool]) -> Driver:
            return Driver(
                self.lake, self.compute(), self.plans, max_attempts=attempts, alive=alive, clock=self.now,
                sleep=lambda seconds: (self.pass_time(seconds), sleep(seconds))[0],
            )  # fmt: skip

        return Run(driver_of)

    def dying(self, compute: Any) -> Compute:
        """A backend whose calls may be the last of the process."""

        def wrap(call: str) -> Callable[..., Any]:
            original = getattr(compute, call)

            def wrapped(*arguments: Any) -> Any:
                self._die(f"before {call}")
                answer = original(*arguments)
                self._die(f"after {call}")
                return answer

            return wrapped

        calls = {call: wrap(call) for call in CALLS}
        own = {name: getattr(compute, name) for name in ("poll_seconds", "slots", "outlives_driver", "cancel", "logs")}
        return SimpleNamespace(**own, **calls)  # type: ignore[return-value]

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

    def name(self, job: Any) -> str:
        raise NotImplementedError

    def move(self, job: Any, state: str) -> None:
        raise NotImplementedError

    def arm(self, fault: str) -> None:
        raise NotImplementedError

    def peace(self) -> None:
        """No more faults."""
        raise NotImplementedError


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
    faults = ("submit lost after", "submit lost after", "submit lost before", "find", "poll", "logs")
    moves = ("starting", "running", "recovering", "succeeded", "failed", "refused", "cancelled")

    def __init__(self, folder: Path, strides: int, slots: int) -> None:
        super().__init__(folder, strides, slots)
        self.clock = 0.0
        self.fleet = Fleet(self.lake, slots=slots)
        self.fleet.doubled = self.doubled
        self.armed: list[str] = []
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
        return self.dying(self.fleet)

    def live(self) -> list[JobHandle]:
        return [handle for handle, status in self.fleet.jobs.items() if not status.state.final]

    def name(self, job: JobHandle) -> str:
        return job.name

    def move(self, job: JobHandle, state: str) -> None:
        self.fleet.jobs[job] = JobStatus(JobState(state), f"it is {state}")

    def arm(self, fault: str) -> None:
        self.armed.append(fault)

    def peace(self) -> None:
        self.armed.clear()
        self.crash_at = ""


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
    faults = ("lose answer", "lose request", "lose post", "slow", "land", "forget", "down", "up")
    moves = (
        *("STARTING", "RUNNING", "RECOVERING", "SUCCEEDED", "FAILED", "FAILED_NO_RESOURCE", "FAILED_SETUP"),
        *("CANCELLED", "exit 65"),
    )

    def __init__(self, folder: Path, strides: int, slots: int) -> None:
        super().__init__(folder, strides, slots)
        self.bench = Bench(max_concurrent_jobs=slots)
        self.threads = Deferred()
        self.sky = self.bench.sky = StepSky(self.bench.clock)
        self.sky.doubled = self.doubled
        self.now = self.bench.clock  # type: ignore[method-assign]

    def compute(self) -> Compute:
        self.bench.compute = self.bench.new_process()
        self.bench.compute._threads = self.threads = Deferred()  # type: ignore[assignment]
        return self.dying(self.bench.compute)

    def pass_time(self, seconds: float) -> None:
        self.threads.run()
        self.bench.clock.sleep(seconds)

    def live(self) -> list[dict[str, Any]]:
        return [row for row in self.sky.rows if row["status"] not in TERMINAL]

    def name(self, job: dict[str, Any]) -> str:
        return str(job["job_name"])

    def move(self, job: dict[str, Any], state: str) -> None:
        if state == "exit 65":
            job |= {"status": "FAILED", "failure_reason": "Job exited with exit code 65"}
        elif state == "RUNNING":
            self.sky.run(job)
        else:
            job |= {"status": state.upper(), "failure_reason": None}

    def arm(self, fault: str) -> None:
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

    def peace(self) -> None:
        self.arm("land")
        self.arm("up")
        self.crash_at = ""
