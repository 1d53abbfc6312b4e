"""What the worker asks of an engine: token ids in, vectors out, in any order, without barriers."""

from collections.abc import Generator
from contextlib import closing
from typing import Protocol

import numpy as np

from embed_worker.engine.clock import EngineClock

Key = tuple[int, int]
"""(checkpoint, index of the token sequence in it)."""
Request = tuple[Key, tuple[int, ...]]
Result = tuple[Key, np.ndarray | str]
"""The vector, float32 of shape [dimension], or why this sequence has none."""


class RequestSource(Protocol):
    """Where an engine pulls its requests from."""

    @property
    def exhausted(self) -> bool:
        """True once every request has been taken. It may turn False again while a result is being looked at."""

    def take(self, block: bool) -> Request | None:
        """The next request; None when none is ready (with `block`: only when exhausted)."""


class Engine(Protocol):
    """A loaded model."""

    dimension: int
    clock: EngineClock

    def embed(self, source: RequestSource) -> Generator[Result, None, None]:
        """Yields each vector as soon as it is there, while it keeps on taking requests. Closing it drops the rest."""

    def versions(self) -> dict[str, str]:
        """Name and version of the engine and of the libraries under it."""


class ListSource:
    """A source over a list, for a handful of texts: canaries and queries."""

    def __init__(self, sequences: list[tuple[int, ...]]) -> None:
        self._requests = iter([((0, i), ids) for i, ids in enumerate(sequences)])
        self.exhausted = False

    def take(self, block: bool) -> Request | None:
        request = next(self._requests, None)
        self.exhausted = request is None
        return request


def embed_list(engine: Engine, sequences: list[tuple[int, ...]]) -> np.ndarray:
    """Vectors of a few sequences in order, float32 of shape [sequences, dimension].

    Raises ValueError with the engine's reason where it refuses one.
    """
    vectors = np.empty((len(sequences), engine.dimension), dtype=np.float32)
    with closing(engine.embed(ListSource(sequences))) as results:
        for (_, index), vector in results:
            if isinstance(vector, str):
                raise ValueError(vector)
            vectors[index] = vector
    return vectors
