"""Ranges read side by side, a process each; one after another where there is one core, or little to read."""

import multiprocessing
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool

from embed_worker.lake.errors import StoreUnavailable
from embed_worker.lake.processes import end_with_parent
from embed_worker.lake.store import Store
from embed_worker.steps.parts import Made, Parts, Task
from embed_worker.steps.spec import SourceSpec

WORTH_BYTES = 32 << 20
"""A process begins in about a second: with less than that for each, it is not worth one."""


def make_all(store: Store, spec: SourceSpec, tasks: Sequence[Task]) -> Iterator[tuple[int, Made]]:
    """The parts of ranges as they come, each with its range's place among the tasks. Raises the first error."""
    workers = min(len(os.sched_getaffinity(0)), len(tasks), sum(task.bytes for task in tasks) // WORTH_BYTES)
    if workers < 2 or multiprocessing.current_process().daemon:
        parts = Parts(store, spec)
        for at, task in enumerate(tasks):
            yield at, parts.make(task)
        return
    # Not forked: this process has threads.
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _begin, (store.root, spec)) as pool:
        try:
            yield from _in_pool(pool, tasks, ahead=2 * workers)
        except BrokenProcessPool as error:
            raise StoreUnavailable(
                "a process that read the source was killed, as by lack of memory; materialize it again, which goes on "
                "at the missing parts"
            ) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _in_pool(pool: ProcessPoolExecutor, tasks: Sequence[Task], ahead: int) -> Iterator[tuple[int, Made]]:
    waiting: dict[Future[Made], int] = {}
    rest = iter(enumerate(tasks))
    while True:
        while len(waiting) < ahead and (following := next(rest, None)) is not None:
            at, task = following
            waiting[pool.submit(_make, task)] = at
        if not waiting:
            return
        done, _ = wait(waiting, return_when=FIRST_COMPLETED)
        for future in done:
            yield waiting.pop(future), future.result()


_parts: Parts | None = None


def _begin(root: str, spec: SourceSpec) -> None:
    global _parts
    _parts = Parts(Store(root), spec)
    end_with_parent()


def _make(task: Task) -> Made:
    assert _parts is not None
    return _parts.make(task)
