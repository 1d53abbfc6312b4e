"""A few threads that read committed shards while the driver goes on polling."""

from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from types import TracebackType
from typing import Generic, TypeVar

from embed_worker.lake.errors import StoreUnavailable

S = TypeVar("S")
R = TypeVar("R")

THREADS = 4
"""Each holds one file of a shard on the scratch disk."""


class Provers(Generic[S, R]):
    """Runs work about a subject; true while some of it is under way."""

    def __init__(self, pool: Executor | None = None) -> None:
        self._pool = pool or ThreadPoolExecutor(THREADS, thread_name_prefix="prover")
        self._going: dict[Future[R], S] = {}

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    def __len__(self) -> int:
        return len(self._going)

    @property
    def free(self) -> bool:
        return len(self._going) < THREADS

    def start(self, subject: S, work: Callable[[], R]) -> None:
        self._going[self._pool.submit(work)] = subject

    def wait(self, seconds: float) -> None:
        """Until one is done, or the time is over."""
        wait(self._going, seconds, FIRST_COMPLETED)

    def finished(self) -> Iterator[tuple[S, R | StoreUnavailable]]:
        """What is done, with its answer; a lake that is away is one. Raises any other error."""
        for future in [future for future in self._going if future.done()]:
            subject = self._going.pop(future)
            try:
                yield subject, future.result()
            except StoreUnavailable as error:
                yield subject, error
