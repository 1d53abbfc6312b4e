"""Vectors that may be wanted again: short texts repeat all over a partition."""

from hashlib import blake2b

import numpy as np
from cachetools import LRUCache

BYTES = 64 << 20
"""Of vectors kept; about 40,000 of 384 float32."""
LONGEST = 64
"""Tokens of a sequence worth keeping: longer texts hardly ever repeat."""


class VectorCache:
    """The latest vectors by token sequence, bounded in bytes. Used by the engine's thread alone."""

    def __init__(self, limit: int = BYTES) -> None:
        self._vectors = LRUCache[bytes, np.ndarray](limit, getsizeof=lambda vector: vector.nbytes)

    def get(self, ids: tuple[int, ...]) -> np.ndarray | None:
        return self._vectors.get(_key(ids)) if len(ids) <= LONGEST else None

    def put(self, ids: tuple[int, ...], vector: np.ndarray) -> None:
        if len(ids) <= LONGEST and vector.nbytes <= self._vectors.maxsize:
            self._vectors[_key(ids)] = vector.copy()  # not a view that would keep the engine's whole batch


def _key(ids: tuple[int, ...]) -> bytes:
    return blake2b(np.asarray(ids, dtype="<u4").tobytes(), digest_size=16).digest()
