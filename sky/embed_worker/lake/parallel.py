"""Many small questions to a lake: on a bucket each takes as long as a request, whatever it asks."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

THREADS = 16


def in_parallel(ask: Callable[[T], R], about: Sequence[T]) -> list[R]:
    """The answers in order. Raises the first error of `ask`."""
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(ask, about))
