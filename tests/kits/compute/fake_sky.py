"""A stand-in for the `sky` module: an API server in memory, with the faults that a test asks for."""

import json
import threading
from collections.abc import Callable
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

from resources.skypilot.client import SkyClient
from resources.skypilot.compute import SkyPilotCompute
from resources.skypilot.deadlines import Threads
from resources.skypilot.settings import SkyPilotFields
from tests.kits.clock import Clock

TERMINAL = {"SUCCEEDED", "CANCELLED", "FAILED", "FAILED_SETUP", "FAILED_PRECHECKS", "FAILED_NO_RESOURCE"}
MACHINE = "1x[spot](gpus=L4:1, cpus=4, mem=16, g6.xlarge, disk=150)"


JOB: Any = SimpleNamespace(pipeline="p", spec=SimpleNamespace(engine={}))


class ApiServerConnectionError(RuntimeError):
    """As SkyPilot's: known by its name."""


class ApiServerAuthenticationError(RuntimeError):
    pass


class ClusterNotUpError(Exception):
    def __init__(self, message: str, cluster_status: str | None) -> None:
        super().__init__(message)
        self.cluster_status = cluster_status


class FakeSky:
    """`jobs` is what the server has; requests are answered when `get` asks."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.rows: list[dict[str, Any]] = []
        self.calls: list[str] = []
        self.tasks: list[dict[str, Any]] = []
        self.cancelled: list[list[int]] = []
        self.in_flight: list[SimpleNamespace] = []
        self.logs: list[str] = ["last words"]
        self.prices: dict[str, float] = {"g6.xlarge": 0.3}
        self.down = False
        self.error: Exception | None = None
        self.launch_error: Exception | None = None
        self.lose: str = ""  # "answer": the job is made, nobody hears of it; "request": nothing is made
        self.gate = threading.Event()
        self.gate.set()
        self.lock = threading.Lock()
        self.jobs = self
        self.Task = SimpleNamespace(from_yaml_config=lambda config: config)

    # -- the SDK ---------------------------------------------------------------------------------

    def launch(self, task: dict[str, Any], name: str, pool: str | None, job_group: None) -> Any:
        self._ask("launch")
        if self.launch_error is not None:
            raise self.launch_error
        if self.lose == "request":
            raise ApiServerConnectionError("connection reset")
        with self.lock:
            self.tasks.append(task)
            row = self.add(name, pool=pool)
        if self.lose == "post":
            raise ApiServerConnectionError("connection reset")
        return ("launch", row["job_id"])

    def queue_v2(self, **asked: Any) -> Any:
        self._ask("queue")
        rows = self.rows
        if asked["skip_finished"]:
            rows = [row for row in rows if row["status"] not in TERMINAL]
        if asked["job_ids"] is not None:
            rows = [row for row in rows if row["job_id"] in asked["job_ids"]]
        if asked["name_match"] is not None:
            rows = [row for row in rows if asked["name_match"] in row["job_name"]]
        assert asked["all_users"] is True
        return [dict(row) for row in rows], len(rows), {}, len(self.rows)

    def cancel(self, job_ids: list[int]) -> Any:
        self._ask("cancel")
        self.cancelled.append(job_ids)
        for row in self.rows:
            if row["job_id"] in job_ids:
                row["status"] = "CANCELLED"
        return None

    def tail_logs(self, job_id: int, output_stream: Any, **_: Any) -> None:
        self._ask("logs")
        output_stream.write(self.logs.pop(0) if len(self.logs) > 1 else self.logs[0])

    def get(self, request: Any) -> Any:
        self._ask("get")
        if isinstance(request, str) and request.startswith("('launch'"):
            self.gate.wait(30)
            if self.lose == "answer":
                raise ConnectionError("reset by peer")
            return [int(request.strip("()").split(", ")[1])], None
        return request

    def api_status(self) -> list[SimpleNamespace]:
        self._ask("status")
        return self.in_flight

    def Resources(self, **asked: Any) -> Any:
        return SimpleNamespace(get_cost=lambda seconds: self.prices[asked["instance_type"]] * seconds / 3600)

    # -- the test's side -------------------------------------------------------------------------

    def add(self, name: str, status: str = "PENDING", **fields: Any) -> dict[str, Any]:
        row = {
            "job_id": len(self.rows) + 1, "job_name": name, "status": status, "submitted_at": self.clock(),
            "start_at": None, "end_at": None, "recovery_count": 0, "failure_reason": None, "details": None,
            "cluster_resources_full": "-", "cloud": "-", "region": "-", "zone": "-", "infra": "-",
            "accelerators": None, "last_recovered_at": -1, "pool": None, **fields,
        }  # fmt: skip
        self.rows.append(row)
        return row

    def run(self, row: dict[str, Any], recoveries: int = 0, region: str = "us-east-1") -> None:
        row |= {
            "status": "RUNNING", "start_at": row["start_at"] or self.clock(), "recovery_count": recoveries,
            "cluster_resources_full": MACHINE, "cloud": "AWS", "region": region, "zone": f"{region}a",
            "infra": f"AWS ({region})", "accelerators": {"L4": 1},
            "last_recovered_at": self.clock(),
        }  # fmt: skip

    def pending_launch(self, name: str | None) -> SimpleNamespace:
        body = json.dumps({"name": name}) if name else "null"
        request = SimpleNamespace(name="sky.jobs.launch", request_body=body, request_id=f"r{len(self.calls)}-{name}")
        self.in_flight.append(request)
        return request

    def _ask(self, what: str) -> None:
        self.calls.append(what)
        if self.down:
            raise ApiServerConnectionError("Could not connect to SkyPilot API server")
        if self.error is not None:
            raise self.error


class LaunchThreads(Threads):
    """Threads that a test can wait for."""

    def __init__(self, count: int) -> None:
        super().__init__(count, "launch")
        self.futures: list[Future[Any]] = []

    def submit(self, work: Callable[[], Any]) -> Future[Any]:
        self.futures.append(super().submit(work))
        return self.futures[-1]

    def settle(self) -> None:
        for future in self.futures:
            future.result(10)


class SkyBench:
    """A backend on a fake server, with a clock that the test moves."""

    def __init__(self, **settings: Any) -> None:
        self.clock = Clock(1_000_000.0)
        self.sleep: Callable[[float], None] = self.clock.sleep
        self.sky = FakeSky(self.clock)
        self.settings = SkyPilotFields(**{"poll_seconds": 10, "call_timeout_seconds": 5, **settings})
        self.compute = self.new_process()

    def new_process(self, threads: Threads | None = None) -> SkyPilotCompute:
        self.threads = LaunchThreads(self.settings.launch_parallelism)
        client = SkyClient("http://user:secret@host:1/sky", self.settings.call_timeout_seconds, self.sky)
        config = {"run": "true", "envs": {"A": "b", "EMBED_JOB": None}}
        return SkyPilotCompute(
            client, config, self.settings,
            clock=self.clock, sleep=lambda seconds: self.sleep(seconds), threads=threads or self.threads,
        )  # fmt: skip

    @property
    def names(self) -> list[str]:
        """Of all jobs that the server has."""
        return [row["job_name"] for row in self.sky.rows]

    def submit(self, name: str) -> Any:
        return self.compute.submit(name, JOB, f"s3://lake/{name}.json")

    def launch(self, name: str) -> Any:
        """Submits and waits for the launch's answer."""
        handle = self.submit(name)
        self.threads.settle()
        return handle

    def poll(self, *handles: Any, after: float = 10) -> Any:
        self.clock.now += after
        found = self.compute.poll(handles)
        if self.sky.gate.is_set():
            self.threads.settle()  # a relaunch goes on in a thread
        return found[handles[0]] if len(handles) == 1 else found
