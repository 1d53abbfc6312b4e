"""The world of the driver's state machine with the SkyPilot backend, on a fake API server."""

from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from resources.compute import Compute
from resources.skypilot.deadlines import Threads
from tests.kits.clock import Clock
from tests.kits.compute.fake_sky import TERMINAL, ApiServerConnectionError, FakeSky, SkyBench
from tests.kits.drive.world import LAKE_FAULTS, World


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


class Deferred(Threads):
    """Launch threads whose work is done while the driver sleeps, in order: the same example always goes alike."""

    def __init__(self) -> None:
        super().__init__(0, "deferred")
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
        self.bench = SkyBench(max_concurrent_jobs=slots)
        self.threads = Deferred()
        self.sky = self.bench.sky = StepSky(self.bench.clock)
        self.sky.doubled = self.doubled
        self.foreign = [self.sky.add(name, "RUNNING") for name in self.others()]
        self.now = self.bench.clock  # type: ignore[method-assign]

    def compute(self) -> Compute:
        self.threads = Deferred()
        self.bench.compute = self.bench.new_process(self.threads)
        return self.bench.compute

    def pass_time(self, seconds: float) -> None:
        self.threads.run()
        if seconds:
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
