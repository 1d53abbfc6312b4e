"""The simulated fleet as a compute backend: the same protocol that SkyPilot's resource answers."""

import contextlib
import importlib.util
import threading
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Client
from typing import Any

from pydantic import Field

from embed_worker.lake.job import EmbedJob
from resources.compute import JobHandle, JobState, JobStatus
from resources.dagster import ComputeResource
from resources.facts import JobFacts


def skypilot_installed() -> bool:
    """Whether there is SkyPilot's `sky`; its namesake, our folder sky/, has no origin."""
    spec = importlib.util.find_spec("sky")
    return spec is not None and spec.origin is not None


class Line:
    """A connection to the cloud; one call at a time."""

    def __init__(self, address: str) -> None:
        self._connection = Client(address, family="AF_UNIX")
        self._lock = threading.Lock()

    def call(self, method: str, *arguments: Any) -> Any:
        with self._lock:
            self._connection.send((method, arguments))
            return self._connection.recv()

    def close(self) -> None:
        self._connection.close()


class SimulatedFleet:
    """Jobs live in another process and outlive this one, as with SkyPilot."""

    outlives_driver = True

    def __init__(self, line: Line) -> None:
        settings = line.call("settings")
        self.poll_seconds: float = settings["poll_seconds"]
        self.slots: int = settings["slots"]
        self._line = line

    def advice(self, jobs: int) -> Sequence[str]:
        return ()

    def submit(self, name: str, job: EmbedJob, url: str) -> JobHandle:
        return JobHandle(name, self._line.call("submit", name, job.shard.key, url))

    def find(self, names: Sequence[str]) -> dict[str, JobHandle]:
        return {name: JobHandle(name, id_) for name, id_ in self._line.call("find", list(names)).items()}

    def poll(self, handles: Sequence[JobHandle]) -> dict[JobHandle, JobStatus]:
        found = self._line.call("poll", [handle.id for handle in handles])
        return {
            handle: JobStatus(JobState(state), detail, JobFacts(**facts))
            for handle in handles
            if handle.id in found
            for state, detail, facts in [found[handle.id]]
        }

    def cancel(self, handles: Sequence[JobHandle]) -> None:
        self._line.call("cancel", [handle.id for handle in handles])

    def logs(self, handle: JobHandle, lines: int = 100) -> str:
        return self._line.call("logs", handle.id, lines)


class SimulatedFleetResource(ComputeResource):
    """Connects each run to the cloud's process."""

    address: str = Field(description="Unix socket of `python -m bench.cloud`.")
    load_skypilot: bool = Field(default=False, description="Import SkyPilot's SDK too, for its memory.")

    @contextlib.contextmanager
    def session(self) -> Iterator[SimulatedFleet]:
        if self.load_skypilot:
            import sky  # noqa: F401

        with contextlib.closing(Line(self.address)) as line:
            yield SimulatedFleet(line)
