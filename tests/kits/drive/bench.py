"""A driver with partitions to make, and a backend whose every answer is chosen by the test."""

import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from embed_assets.checks.proof import Proof, Prove
from embed_assets.drive.driver import Driver
from embed_assets.drive.events import Outcome
from embed_worker.lake.integrity import file_faults
from embed_worker.lake.job import EmbedJob
from embed_worker.lake.layout import Partitioning, ShardId
from embed_worker.lake.manifests import Canaries, InputRef, ShardManifest
from resources.compute import ComputeUnavailable, JobHandle, JobState, JobStatus
from resources.lake import Lake
from tests.kits import pipelines as kit
from tests.kits.clock import Clock
from tests.kits.lake.away import AwayLake

PARTITIONING = Partitioning("stride", 8)
LIVE = (JobState.QUEUED, JobState.STARTING, JobState.RUNNING, JobState.RECOVERING)


def job_of(lake: Lake, stride: int, digest: str = "", rows: int = 0) -> EmbedJob:
    spec, digest = kit.spec(), digest or f"{stride:02x}"
    return EmbedJob(
        pipeline="p", shard=ShardId.of("d", spec.spec_id, PARTITIONING, stride, digest), lake=lake.store.root,
        spec=spec, input=InputRef(path="stride_partitions/d", digest=digest, rows=rows), spans=[],
    )  # fmt: skip


def commit(lake: Lake, job: EmbedJob, digest: str | None = None, **changes: Any) -> None:
    """What a worker does at the end; with `digest`, what somebody copied here from the shard of another input."""
    path, digest = job.shard.manifest_path, digest or job.input.digest
    manifest = ShardManifest(
        pipeline="p", shard=job.shard.model_copy(update={"input_digest": digest}), spec=job.spec,
        input=job.input.model_copy(update={"digest": digest}), files=[], rows_in=job.input.rows, rows_embedded=job.input.rows, rows_rejected=0,
        windows=0, tokens=0, duplicate_windows=0, dimension=None, dtype="float32",
        canaries=Canaries.of(["a"], np.ones((1, 2))), checkpoint_rows=4, checkpoints=0, engine={}, hardware={},
        attempts=[], seconds={}, **changes,
    )  # fmt: skip
    lake.store.create_json(path, manifest.model_dump(mode="json"))


class AtOnce(Executor):
    """Does what it is given before it answers: a driver's proofs by the test's own clock."""

    def submit(self, work: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(work(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


@dataclass(frozen=True)
class Note:
    """Something that the driver told."""

    text: str
    warning: bool = False


class FakeCompute:
    """A backend whose every answer is chosen by the test."""

    def __init__(self, lake: Lake, *, slots: int = 3, outlives: bool = True) -> None:
        self.lake, self.slots, self.outlives_driver = lake, slots, outlives
        self.poll_seconds = 1.0
        self.jobs: dict[JobHandle, JobStatus] = {}
        self.jobs: dict[str, EmbedJob] = {}
        self.calls: Counter[str] = Counter()
        self.log: list[str] = []
        self.submitted: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()
        self.most_live = 0
        self._ids = itertools.count()
        self.on_submit: Callable[[], str] = lambda: "yes"
        self.on_ask: Callable[[str], bool] = lambda _: True
        self.advance: Callable[[JobHandle, JobStatus], None] = lambda *_: None

    def start(self, name: str, state: JobState = JobState.QUEUED) -> JobHandle:
        handle = JobHandle(name, str(next(self._ids)))
        self.jobs[handle] = JobStatus(state)
        return handle

    def live(self, name: str) -> list[JobHandle]:
        return [h for h, status in self.jobs.items() if h.name == name and status.state in LIVE]

    def advice(self, jobs: int) -> Sequence[str]:
        return ()

    def submit(self, name: str, job: EmbedJob, url: str) -> JobHandle:
        self.calls["submit"] += 1
        assert url == self.lake.url(job.path)
        assert self.lake.store.exists(job.path), "submitted before the job file was written"
        answer = self.on_submit()
        if answer == "lost before":
            raise ComputeUnavailable("connection refused")
        assert not self.live(name), f"{name} is submitted beside a live job"
        handle = self.start(name)
        self.submitted[name] += 1
        self.most_live = max(self.most_live, sum(s.state in LIVE for s in self.jobs.values()))
        if answer == "lost after":
            raise ComputeUnavailable("timed out")
        self.answered[name] += 1
        return handle

    def find(self, names: Sequence[str]) -> dict[str, JobHandle]:
        self.calls["find"] += 1
        if not self.on_ask("find"):
            raise ComputeUnavailable("bad gateway")
        found = {name: self.live(name)[0] for name in names if self.live(name)}
        self.answered.update(found.keys())
        return found

    def poll(self, handles: Sequence[JobHandle]) -> dict[JobHandle, JobStatus]:
        self.calls["poll"] += 1
        assert len(set(handles)) == len(handles)
        for handle, status in list(self.jobs.items()):
            if status.state in LIVE:
                self.advance(handle, status)
        if not self.on_ask("poll"):
            raise ComputeUnavailable("bad gateway")
        return {h: JobStatus(self.jobs[h].state, self.jobs[h].detail, kind=self.jobs[h].kind) for h in handles}

    def cancel(self, handles: Sequence[JobHandle]) -> None:
        self.calls["cancel"] += 1

    def logs(self, handle: JobHandle, lines: int = 100) -> str:
        if not self.on_ask("logs"):
            raise ComputeUnavailable("bad gateway")
        return f"log of {handle.id}"


class DriverBench:
    """A lake, a backend, some jobs and a driver."""

    def __init__(self, folder: Path, strides: int = 1, **options: Any) -> None:
        self.lake, self.drivers_lake = Lake(root=str(folder)), AwayLake(root=str(folder))
        self.jobs = [job_of(self.lake, stride) for stride in range(strides)]
        self.notes: list[Note] = []
        self.prove: Prove = self._intact
        self.compute = FakeCompute(self.lake, **options)
        self.clock = Clock()

    def _intact(self, job: EmbedJob, manifest: ShardManifest) -> Proof:
        return Proof(next(iter(file_faults(self.drivers_lake.store, job.shard.folder, manifest.listed)), None))

    def tell(self, text: str, *, warning: bool = False) -> None:
        self.notes.append(Note(text, warning))

    def driver(self, **options: Any) -> Driver:
        options = {
            "tell": self.tell, "prove": lambda *about: self.prove(*about), "provers": AtOnce(),
            "clock": self.clock, "sleep": self.clock.sleep,
        } | options  # fmt: skip
        return Driver(self.drivers_lake, self.compute, self.jobs, **options)

    def run(self, **options: Any) -> list[Outcome]:
        return list(self.driver(**options).run())

    @property
    def told(self) -> str:
        return "\n".join(note.text for note in self.notes)

    def commit(self, handle: JobHandle) -> None:
        commit(self.lake, next(job for job in self.jobs if job.name == handle.name))

    def states(self, *script: str) -> None:
        """Each poll takes a job one word on: a state, `commit`, or a state with a `+commit`."""
        at: Counter[JobHandle] = Counter()

        def advance(handle: JobHandle, status: JobStatus) -> None:
            word = script[min(at[handle], len(script) - 1)]
            at[handle] += 1
            state, _, also = word.partition("+")
            if also or state == "commit":
                self.commit(handle)
            status.state = JobState.RUNNING if state == "commit" else JobState(state)
            status.detail = f"detail {word}"

        self.compute.advance = advance
