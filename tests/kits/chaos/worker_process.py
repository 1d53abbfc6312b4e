"""One attempt of the worker in a process of its own, forked from a server that has imported all: 20 ms, not 2 s."""

import logging
import os
import resource
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fsspec

from embed_worker.__main__ import Worker
from embed_worker.attempt import parts
from embed_worker.attempt.runner import run_job
from embed_worker.engine.base import ListSource, RequestSource, Result
from embed_worker.engine.hash import HashEngine
from embed_worker.engine.loading import LoadedModel, load_model
from embed_worker.errors import Preempted
from embed_worker.lake import failpoints
from embed_worker.lake.job import load_job
from embed_worker.lake.spec import EmbeddingSpec

PART_BYTES = 9_000
"""So that the small shards of the tests have several parts."""


@dataclass(frozen=True)
class Orders:
    """What an attempt is to do, as it is sent to its process."""

    url: str
    """Of the job file."""
    folder: str
    """For its log, its scratch and the engine's diary."""
    armed: str = ""
    """A failpoint, as EMBED_FAILPOINT takes it."""
    pace: float = 0.0
    """Seconds a vector."""
    rival: bool = False
    """Another attempt commits the first checkpoints while this one's engine makes them."""
    scratch: str = ""
    """Where temporary files go, where not into `folder`."""
    file_bytes: int = 0
    """Limit on the size of a file."""
    spare_bytes: int = 0
    """Limit on the address space: so much more than the process has when it starts."""
    cgroup: str = ""
    """Folder of a memory cgroup to run in."""
    eats: int = 0
    """Bytes that the engine takes when it has begun its fourth checkpoint: one at least is written by then."""
    environment: dict[str, str] = field(default_factory=lambda: dict(os.environ))
    fsspec: dict[str, Any] = field(default_factory=lambda: dict(fsspec.config.conf))


def carry_out(orders: Orders) -> None:
    """Ends the process with the worker's exit code."""
    os.environ.clear()
    os.environ.update(orders.environment)
    fsspec.config.conf.update(orders.fsspec)
    tempfile.tempdir = orders.scratch or orders.folder
    logging.basicConfig(
        level=logging.INFO,
        filename=f"{orders.folder}/log",
        format="%(asctime)s %(process)d %(levelname)s %(name)s: %(message)s",
    )
    parts.PART_BYTES = PART_BYTES
    failpoints.arm(orders.armed)
    limit(orders)
    code, _ = DiaryWorker(orders).run(orders.url)
    logging.info("exit code %d", code)
    sys.stderr.flush()
    os._exit(code)


def limit(orders: Orders) -> None:
    if orders.file_bytes:
        resource.setrlimit(resource.RLIMIT_FSIZE, (orders.file_bytes, orders.file_bytes))
    if orders.spare_bytes:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        whole = pages * resource.getpagesize() + orders.spare_bytes
        resource.setrlimit(resource.RLIMIT_AS, (whole, whole))
    if orders.cgroup:
        Path(orders.cgroup, "cgroup.procs").write_text(str(os.getpid()))


class DiaryWorker(Worker):
    """The real worker, with an engine that keeps a diary."""

    def __init__(self, orders: Orders) -> None:
        super().__init__()
        self._orders = orders

    def model(self, spec: EmbeddingSpec) -> LoadedModel:
        if self._model is None:
            self._model = load_model(spec)
            self._model.engine = DiaryEngine(spec, self._orders)
        return self._model


class DiaryEngine(HashEngine):
    """Writes down each checkpoint that it begins: one line, in a file that all attempts share."""

    def __init__(self, spec: EmbeddingSpec, orders: Orders) -> None:
        super().__init__(spec)
        self._orders = orders
        self._diary = os.open(diary_of(orders.folder), os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def embed(self, source: RequestSource) -> Generator[Result, None, None]:
        if isinstance(source, ListSource):  # canaries are no checkpoint
            yield from super().embed(source)
            return
        begun, count = -1, 0
        for (index, sequence), vector in super().embed(source):
            if index != begun:
                os.write(self._diary, f"{os.getpid()} {index}\n".encode())
                if begun == -1 and self._orders.rival:
                    be_the_rival(self._orders.url)
                begun, count = index, count + 1
                if self._orders.eats and count == 4:
                    bytearray(b"x" * self._orders.eats)
            time.sleep(self._orders.pace)
            yield (index, sequence), vector


def diary_of(folder: str) -> Path:
    return Path(folder) / "diary"


def be_the_rival(url: str) -> None:
    """An attempt that commits two checkpoints more than there are, and is preempted."""
    job, stop = load_job(url), threading.Event()

    class Engine(HashEngine):
        def embed(self, source: RequestSource) -> Generator[Result, None, None]:
            first = None
            for (index, sequence), vector in super().embed(source):
                first = index if first is None else first
                if index >= first + 2:
                    stop.set()
                yield (index, sequence), vector

    model = load_model(job.spec)
    model.engine = Engine(job.spec)
    try:
        run_job(job, lambda: model, stop)
    except Preempted:
        pass


def state_of(pid: int) -> str:
    """The letter of a process's state as the kernel has it: T where it is stopped; empty where it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


KILLED = -signal.SIGKILL
