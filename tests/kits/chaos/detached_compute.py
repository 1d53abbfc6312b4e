"""A backend on this machine whose jobs outlive the driver, as a cloud's do: each is a forked process with a folder."""

import contextlib
import fcntl
import os
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path

from embed_worker.exits import ExitCode
from embed_worker.lake.failpoints import VARIABLE
from embed_worker.lake.job import EmbedJob
from resources.compute import Compute, JobHandle, JobState, JobStatus, tail_of
from resources.dagster import ComputeResource
from tests.kits.chaos import fork_server
from tests.kits.chaos.fork_server import Child

WORKER = "tests.kits.chaos.platform_process:worker"
SLOTS = 2


class Jobs:
    """What the backend keeps on disk: a folder a job, one line a start, and the failpoints of the workers to come."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.starts = folder / "starts"
        """Lines `name id`; `twice name` where the driver asked for a job beside a live one."""
        self.failpoints = folder / "failpoints"
        folder.mkdir(parents=True, exist_ok=True)

    def live(self) -> list[tuple[str, str]]:
        """(name, id) of each."""
        found = sorted(path for path in self.folder.glob("*/*") if path.is_dir())
        return [(path.parent.name, path.name) for path in found if Child(path).alive]

    def child(self, name: str, id_: str) -> Child:
        return Child(self.folder / name / id_)

    def note(self, line: str) -> None:
        descriptor = os.open(self.starts, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(descriptor, line.encode() + b"\n")
        os.close(descriptor)

    def doubled(self) -> list[str]:
        lines = self.starts.read_text().splitlines() if self.starts.exists() else []
        return [line for line in lines if line.startswith("twice ")]

    def next_failpoint(self) -> str:
        """Taken from the list: each is for one worker."""
        if not self.failpoints.exists():
            return ""
        with self.failpoints.open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            first, *others = file.read().splitlines() or [""]
            file.seek(0)
            file.truncate()
            file.write("".join(f"{line}\n" for line in others))
        return first


class DetachedCompute:
    poll_seconds, slots, outlives_driver = 0.03, SLOTS, True

    def __init__(self, address: str, jobs: Jobs) -> None:
        self._address, self._jobs = address, jobs

    def advice(self, jobs: int) -> Sequence[str]:
        return ()

    def submit(self, name: str, job: EmbedJob, url: str) -> JobHandle:
        fork_server.ask(self._address)  # what a driver that died has asked for is there now
        if name in dict(self._jobs.live()):
            self._jobs.note(f"twice {name}")
        id_ = f"{len(list(self._jobs.folder.glob('*/*'))):04d}"
        self._jobs.note(f"{name} {id_}")
        environment = {k: v for k, v in os.environ.items() if k.startswith(("AWS_", "EMBED_CHAOS_"))}
        environment[VARIABLE] = self._jobs.next_failpoint()
        fork_server.spawn(self._address, self._jobs.folder / name / id_, WORKER, environment, url)
        return JobHandle(name, id_)

    def find(self, names: Sequence[str]) -> dict[str, JobHandle]:
        fork_server.ask(self._address)
        return {name: JobHandle(name, id_) for name, id_ in self._jobs.live() if name in names}

    def poll(self, handles: Sequence[JobHandle]) -> dict[JobHandle, JobStatus]:
        return {handle: self._status(handle) for handle in handles}

    def cancel(self, handles: Sequence[JobHandle]) -> None:
        for handle in handles:
            self._jobs.child(handle.name, handle.id).send(signal.SIGKILL)

    def logs(self, handle: JobHandle, lines: int = 100) -> str:
        return tail_of(self._jobs.child(handle.name, handle.id).log, lines)

    def _status(self, handle: JobHandle) -> JobStatus:
        child = self._jobs.child(handle.name, handle.id)
        if child.alive:
            return JobStatus(JobState.RUNNING)
        states = {ExitCode.DONE: JobState.SUCCEEDED, ExitCode.BAD_JOB: JobState.REFUSED}
        code = child.code
        if code is None:
            return JobStatus(JobState.FAILED, "the worker was killed")
        return JobStatus(states.get(ExitCode(code), JobState.FAILED), f"exit code {code}")


class DetachedComputeResource(ComputeResource):
    address: str
    folder: str

    @contextlib.contextmanager
    def session(self) -> Iterator[Compute]:
        yield DetachedCompute(self.address, Jobs(Path(self.folder)))
