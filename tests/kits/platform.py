"""What the platform's tests share: small specs, sources, lakes, committed shards."""

import csv
import json
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import pyarrow.parquet as pq

from embed_assets.spec import DatasetSpec, EmbeddingPipeline
from embed_worker.attempt.runner import run_job
from embed_worker.engine.loading import load_model
from embed_worker.errors import WorkerError
from embed_worker.exits import ExitCode
from embed_worker.lake import layout
from embed_worker.lake.errors import StoreUnavailable
from embed_worker.lake.job import EmbedJob, load_job
from embed_worker.lake.layout import Partitioning, ShardId
from embed_worker.lake.manifests import InputRef, RawManifest, ShardManifest, StridesManifest
from embed_worker.lake.spec import EmbeddingSpec
from embed_worker.lake.store import Store
from embed_worker.steps.cut import write_strides
from embed_worker.steps.raw import ingest
from resources.compute import Compute, JobHandle, JobState, JobStatus
from resources.dagster import ComputeResource
from resources.lake import Lake

HASH: dict[str, Any] = {"model": "embed-worker/hash", "pooling": "mean", "attention": "bidirectional", "max_tokens": 64}


def spec(**changes: Any) -> EmbeddingSpec:
    return EmbeddingSpec(**{**HASH, **changes})


def dataset(source: Any, **changes: Any) -> DatasetSpec:
    return DatasetSpec(**{"name": "d", "source": source, "text": "{text}", "strides": 3, **changes})


def pipeline(datasets: list[DatasetSpec], **changes: Any) -> EmbeddingPipeline:
    return EmbeddingPipeline(
        **{"name": "p", "datasets": datasets, "embedding": spec(), "checkpoint_rows": 4, **changes}
    )


def texts(count: int, start: int = 0) -> list[dict[str, Any]]:
    return [
        {"key": f"k{i}", "text": f"text number {i}, " + "word " * (i % 9), "n": i} for i in range(start, start + count)
    ]


def write_jsonl(path: Path, records: Iterable[Any]) -> Path:
    path.write_bytes(b"".join(json.dumps(record, ensure_ascii=False).encode() + b"\n" for record in records))
    return path


def write_csv(path: Path, records: list[dict[str, Any]], delimiter: str = ",") -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(records[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(records)
    return path


def raw_rows(store: Store, raw: RawManifest, columns: list[str] | None = None) -> list[dict[str, Any]]:
    folder = layout.raw_folder(raw.dataset, raw.snapshot)
    found: list[dict[str, Any]] = []
    for file in raw.files:
        found += pq.read_table(store.path(f"{folder}/{file.path}"), columns=columns).to_pylist()
    return found


def rejects(store: Store, raw: RawManifest) -> list[dict[str, Any]]:
    assert raw.rejects is not None
    found: list[dict[str, Any]] = pq.read_table(
        store.path(f"{layout.raw_folder(raw.dataset, raw.snapshot)}/{raw.rejects.path}")
    ).to_pylist()
    return found


def manifests(lake: Path) -> list[str]:
    """All that readers of a lake can see."""
    return sorted(str(path.relative_to(lake)) for path in lake.rglob("_*.json") if "_retired" not in path.name)


class Prepared:
    """A dataset in a lake, ingested and cut; shards on demand."""

    def __init__(self, lake: Path, source: Any, *, embedding: EmbeddingSpec | None = None, **changes: Any) -> None:
        self.resource = Lake(root=str(lake))
        self.store = self.resource.store
        self.dataset = dataset(source, **changes)
        self.pipeline = pipeline([self.dataset], embedding=embedding or spec())
        self.raw = ingest(self.store, self.dataset).manifest
        self.partitioning = Partitioning(self.raw.snapshot, self.dataset.partitioning, self.dataset.strides)
        self.strides: StridesManifest = write_strides(self.store, self.raw, self.partitioning).manifest

    def job(self, stride: int, **changes: Any) -> EmbedJob:
        entry = self.strides.strides[stride]
        spec = changes.get("spec", self.pipeline.embedding)
        fields = {
            "pipeline": self.pipeline.name,
            "shard": ShardId.of(self.dataset.name, spec.spec_id, self.partitioning, stride),
            "lake": self.store.root,
            "input": InputRef(
                path=layout.strides_folder(self.dataset.name, self.partitioning),
                digest=entry.digest,
                rows=entry.rows,
                files=entry.files,
            ),
            "spec": self.pipeline.embedding,
            "checkpoint_rows": self.pipeline.checkpoint_rows,
        }
        return EmbedJob(**{**fields, **changes})

    def embed(self, stride: int, **changes: Any) -> ShardManifest:
        """Runs the worker in this process."""
        job = self.job(stride, **changes)
        run_job(job, lambda: load_model(job.spec), threading.Event())
        manifest = self.resource.shard(job.shard)
        assert manifest is not None
        return manifest

    def expected(self, stride: int) -> range:
        found = self.partitioning.row_ids(stride, self.raw.rows)
        assert isinstance(found, range)
        return found


SERVE = """
import os, sys, time
import embed_worker.__main__ as worker

real = worker.run_job
def run_job(job, *rest, **options):
    print("working on", job.shard.key, file=sys.stderr, flush=True)
    {body}
    return real(job, *rest, **options)
worker.run_job = run_job
sys.argv = ["embed_worker", "--serve"]
code = worker.main()
sys.stderr.flush()
os._exit(code)
"""


HANG = "import signal; signal.signal(signal.SIGTERM, signal.SIG_DFL); time.sleep(600)"
"""For `worker_python`: a job that never ends, in a worker that SIGTERM ends at once."""


def worker_python(path: Path, body: str) -> str:
    """Stands in for the worker's Python: the real worker, but `body` runs before each job."""
    path.write_text(f"#!{sys.executable}\n{SERVE.format(body=body.strip())}")
    path.chmod(0o755)
    return str(path)


def shell_python(path: Path, body: str) -> str:
    """Stands in for the worker's Python: a shell script."""
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return str(path)


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def wait_for(condition: Callable[[], Any], seconds: float = 30) -> Any:
    """Waits until something is so; the limit is for a broken test, not for a slow machine."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)
    return found


class AwayStore(Store):
    """Does not answer for some of its paths."""

    away: str | None = None
    """A part of the paths that do not answer; "" is in all of them."""
    asked = 0
    """How often it did not answer."""

    def _errors(self, path: str) -> Any:
        if self.away is not None and self.away in path:
            self.asked += 1
            raise StoreUnavailable(f"{path}: the store cannot be reached")
        return super()._errors(path)


class AwayLake(Lake):
    @cached_property
    def store(self) -> AwayStore:  # type: ignore[override]
        return AwayStore(self.root)


class InProcess:
    """Runs each job at once, in this process: for tests that are not about workers."""

    poll_seconds, slots, outlives_driver = 0.001, 8, False

    def __init__(self) -> None:
        self._ended: dict[JobHandle, JobStatus] = {}

    def submit(self, name: str, job: EmbedJob, url: str) -> JobHandle:
        handle = JobHandle(name, str(len(self._ended)))
        try:
            run_job(load_job(url), lambda: load_model(job.spec), threading.Event())
            self._ended[handle] = JobStatus(JobState.SUCCEEDED)
        except WorkerError as error:
            bad = error.exit_code is ExitCode.BAD_JOB
            self._ended[handle] = JobStatus(JobState.REFUSED if bad else JobState.FAILED, str(error))
        return handle

    def find(self, names: Sequence[str]) -> dict[str, JobHandle]:
        return {}

    def poll(self, handles: Sequence[JobHandle]) -> dict[JobHandle, JobStatus]:
        return {handle: self._ended[handle] for handle in handles}

    def cancel(self, handles: Sequence[JobHandle]) -> None:
        raise AssertionError("nothing runs on here")

    def logs(self, handle: JobHandle, lines: int = 100) -> str:
        return self._ended[handle].detail


class InProcessCompute(ComputeResource):
    backend: ClassVar[Callable[[], InProcess]] = InProcess
    """For a test to replace; Dagster makes a resource anew for each run."""

    @contextmanager
    def session(self) -> Iterator[Compute]:
        yield type(self).backend()
