"""Partitions of known texts alone are composed here, in a few processes, before any job is launched."""

import logging
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass

from embed_assets.drive.events import Tell
from embed_worker.compose import begin, compose
from embed_worker.lake.errors import StoreUnavailable
from embed_worker.lake.job import EmbedJob
from resources.lake import Lake

log = logging.getLogger(__name__)

PROCESSES = 8
"""At most; each holds about 200 MB."""
LOOK_SECONDS = 0.5
Waiting = list[tuple[float, EmbedJob]]


@dataclass(frozen=True)
class Composed:
    """A job that was tried."""

    job: EmbedJob
    done: bool
    seconds: float


def _pool() -> Executor:
    size = min(PROCESSES, len(os.sched_getaffinity(0)))
    return ProcessPoolExecutor(size, multiprocessing.get_context("spawn"), begin)  # not forked: there are threads here


class Composing:
    """Tries each job once. True while one is being tried."""

    def __init__(self, lake: Lake, tell: Tell, pool: Callable[[], Executor] = _pool) -> None:
        self._lake, self._tell, self._begin = lake, tell, pool
        self._pool: Executor | None = None
        self._going: dict[Future[str | None], tuple[EmbedJob, float]] = {}
        self._tried: set[str] = set()
        self._made = 0

    def __len__(self) -> int:
        return len(self._going)

    def take(self, waiting: Waiting) -> Waiting:
        """Begins with those that earlier shards may know whole; the others."""
        return [(at, job) for at, job in waiting if not self._take(job)]

    def _take(self, job: EmbedJob) -> bool:
        if not job.reuse or job.name in self._tried or multiprocessing.current_process().daemon:
            return False
        self._tried.add(job.name)
        try:
            url = self._lake.write_job(job)  # names what the composition reads: gc leaves it
        except StoreUnavailable:
            return False  # the launch asks again
        self._pool = self._pool or self._begin()
        try:
            self._going[self._pool.submit(compose, url)] = job, time.monotonic()
        except RuntimeError as error:  # a process of the pool was killed, as for lack of memory
            log.warning("%s is not composed here: %s", job.shard, error)
            return False
        return True

    def wait(self, longest: float) -> None:
        """Until one is over, or a moment has passed."""
        wait(self._going, min(longest, LOOK_SECONDS), FIRST_COMPLETED)

    def ended(self) -> Iterator[Composed]:
        """Those that are over."""
        for future in [future for future in self._going if future.done()]:
            job, since = self._going.pop(future)
            if (error := future.exception()) is not None:
                self._tell(f"{job.shard} could not be composed here and is launched as a job: {error}", warning=True)
            done = error is None and future.result() is None
            self._made += done
            yield Composed(job, done, time.monotonic() - since)
        if not self._going and self._made:
            self._tell(f"{self._made} partitions hold known texts alone: composed here, without a job")
            self._made = 0

    def close(self) -> None:
        """What was not begun is dropped."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
