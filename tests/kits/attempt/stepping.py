"""Attempts that move only when they are told to: from one call of the store, or one failpoint, to the next.

The whole of `run_job` runs, its threads laid into one: what it does in which order is decided by the test alone.
"""

import dataclasses
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from embed_worker.attempt import checkpoints, parts, runner, writing
from embed_worker.attempt.feeder import Feeder
from embed_worker.attempt.open_checkpoint import OpenCheckpoint
from embed_worker.attempt.runner import run_job
from embed_worker.engine.loading import LoadedModel, load_model
from embed_worker.lake import failpoints, table
from embed_worker.lake.job import EmbedJob
from embed_worker.lake.spec import EmbeddingSpec
from embed_worker.lake.store import Store
from tests.kits.attempt.jobs import CountingEngine

READS = ("exists", "read", "open", "list")
WRITES = ("create", "create_file", "delete", "replace")
PART_BYTES = 9000
"""Small enough that a shard of a few rows has several parts."""
STEP_SECONDS = 120.0
"""How long a step may take: for a broken test."""
SHM = "/dev/shm" if Path("/dev/shm").is_dir() else None
VERSIONS = ("same", "bytes", "metadata")
"""Of the worker: one writes other Parquet bytes for the same rows, one also other metadata."""


class StepKilled(BaseException):
    """The attempt's machine is gone."""


class SteppedAttempt:
    """One run of a job in a thread of its own, which stands still while the test does anything else."""

    def __init__(self, job: EmbedJob, version: str = "same") -> None:
        self.job, self.version = job, version
        self.engine = CountingEngine(job.spec)
        self.at = "start"
        self.over = self.wrote = False
        self.won: bool | None = None
        self.end: BaseException | None = None
        self._dead = self._commits = self._sweeps = False
        self._go, self._back = threading.Semaphore(0), threading.Semaphore(0)
        self._thread = threading.Thread(target=self._main, daemon=True)
        self._thread.start()

    @property
    def past_looking(self) -> bool:
        """Whether it acts on what it has seen a moment ago: removes what a manifest does not list, or puts its own."""
        return (self._sweeps and self.at in ("delete", "sweep.checkpoints")) or (
            self._commits and self.at in ("create", "store.temporary")
        )

    def step(self) -> None:
        """To the next place, or the end."""
        self._go.release()
        assert self._back.acquire(timeout=STEP_SECONDS), f"the attempt hangs after {self.at}"

    def bury(self) -> None:
        """Ends the thread of an attempt that was killed. Nothing of it reaches the lake: it stood still for ever."""
        self._dead = True
        while not self.over:
            self.step()
        self._thread.join()

    def reach(self, place: str) -> None:
        """Called in the attempt's thread: stands still until the test goes on."""
        if self._dead:
            raise StepKilled
        self.at = place
        self._commits |= place == "manifest.ready"
        self._sweeps |= place == "sweep.begun"
        self._back.release()
        self._go.acquire()
        if self._dead:
            raise StepKilled

    def _main(self) -> None:
        _here.attempt = self
        self._go.acquire()
        try:
            self.won = run_job(self.job, self._load, threading.Event(), tokenizer=lambda spec: _model(spec).tokenizer)
        except BaseException as error:
            self.end = error
        self.over = True
        self._back.release()

    def _load(self) -> LoadedModel:
        return dataclasses.replace(_model(self.job.spec), engine=self.engine)


_here = threading.local()


def _current() -> SteppedAttempt | None:
    return getattr(_here, "attempt", None)


@cache
def _loaded(spec: str) -> LoadedModel:
    return load_model(EmbeddingSpec.model_validate_json(spec))


def _model(spec: EmbeddingSpec) -> LoadedModel:
    return _loaded(spec.model_dump_json())


@contextmanager
def stepping() -> Iterator[None]:
    """In it, attempts of this process stand still at each call of the store and at each failpoint."""
    with pytest.MonkeyPatch.context() as patch:
        for name in (*READS, *WRITES):
            patch.setattr(Store, name, _stopping(getattr(Store, name), name))
        patch.setattr(failpoints, "reach", _reach)
        patch.setattr(writing, "ThreadPoolExecutor", _Inline)
        patch.setattr(runner, "Feeder", _InlineFeeder)
        patch.setattr(runner, "Pulse", _NoHeartbeat)
        patch.setattr(parts, "PART_BYTES", PART_BYTES)
        patch.setattr(parts, "parquet_writer", _versioned_writer)
        patch.setattr(checkpoints, "write_table", _versioned_table)
        patch.setattr(parts, "shard_schema", _versioned_schema)
        yield


def _reach(place: str) -> None:
    if attempt := _current():
        attempt.reach(place)


def _stopping(call: Callable[..., Any], name: str) -> Callable[..., Any]:
    def stopped(store: Store, *arguments: Any) -> Any:
        if attempt := _current():
            attempt.reach(name)
            attempt.wrote |= name in WRITES
        return call(store, *arguments)

    return stopped


class _Inline:
    """An executor without a thread."""

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def __enter__(self) -> "_Inline":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def submit(self, work: Callable[..., Any], *arguments: Any) -> Future[Any]:
        future = Future[Any]()
        try:
            future.set_result(work(*arguments))
        except BaseException as error:
            future.set_exception(error)
        return future

    def shutdown(self, **_: object) -> None: ...


class _Units:
    def __init__(self, checkpoints: Iterator[OpenCheckpoint]) -> None:
        self._units = checkpoints

    def get(self, block: bool) -> OpenCheckpoint | None:
        return next(self._units, None)


class _InlineFeeder(Feeder):
    """A feeder without a thread: a checkpoint is looked at when the engine asks for it."""

    def __init__(
        self, tables: Iterator[tuple[int, pa.Table]], make: Callable[[int, pa.Table], OpenCheckpoint | None], ahead: int
    ) -> None:
        self._room = threading.Semaphore()
        self._ended, self._first, self._current = False, deque(), None
        checkpoints = (checkpoint for index, rows in tables if (checkpoint := make(index, rows)) is not None)
        self._queue = _Units(checkpoints)  # type: ignore[assignment]

    def stop(self) -> None:
        pass


class _NoHeartbeat:
    """Heartbeats are no part of the protocol."""

    def __init__(self, *_: object) -> None:
        pass

    def __enter__(self) -> "_NoHeartbeat":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def update(self, **_: object) -> None:
        pass

    def add(self, **_: object) -> None:
        pass


def _version() -> str:
    attempt = _current()
    return attempt.version if attempt else "same"


def _versioned_writer(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    if _version() == "same":
        return table.parquet_writer(path, schema)
    return pq.ParquetWriter(path, schema, use_dictionary=True, compression="gzip")


def _versioned_table(path: Path, rows: pa.Table) -> None:
    with _versioned_writer(path, rows.schema) as writer:
        writer.write_table(rows)


def _versioned_schema(job: EmbedJob, dimension: int) -> pa.Schema:
    schema = table.shard_schema(job, dimension)
    if _version() != "metadata":
        return schema
    return schema.with_metadata({**schema.metadata, b"written_by": b"another version"})


class Bucket(MemoryFileSystem):
    """An object store in memory: what the worker takes for GCS, without a network."""

    protocol = ("gs", "gcs")
    store: dict[str, Any] = {}  # noqa: RUF012  (as in MemoryFileSystem: one bucket for all instances)
    pseudo_dirs = [""]  # noqa: RUF012

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        return super()._strip_protocol(str(path).removeprefix("gs://"))

    def rm(self, path: Any, recursive: bool = False, maxdepth: int | None = None, timeout: float | None = None) -> None:
        super().rm(path, recursive=recursive, maxdepth=maxdepth)


@contextmanager
def bucket() -> Iterator[str]:
    """URL of an empty lake in memory."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules["fsspec.registry"]._registry, "gs", Bucket)
        try:
            yield "gs://lake"
        finally:
            Bucket.store.clear()
            Bucket.pseudo_dirs[:] = [""]


@contextmanager
def fast_folder() -> Iterator[Path]:
    """A folder in memory where there is such a thing: a lake there behaves as on any disk."""
    with tempfile.TemporaryDirectory(dir=SHM, ignore_cleanup_errors=True) as folder:
        yield Path(folder)
