"""Vectors that may be wanted again: short texts repeat all over a partition."""

from collections import OrderedDict
from hashlib import blake2b

import numpy as np

BYTES = 64 << 20
"""Of vectors kept; about 40,000 of 384 float32."""
LONGEST = 64
"""Tokens of a sequence worth keeping: longer texts hardly ever repeat."""


class VectorCache:
    """The latest vectors by token sequence, bounded in bytes. Used by the engine's thread alone."""

    def __init__(self, limit: int = BYTES) -> None:
        self._limit, self._held = limit, 0
        self._vectors: OrderedDict[bytes, np.ndarray] = OrderedDict()

    def get(self, ids: tuple[int, ...]) -> np.ndarray | None:
        if len(ids) > LONGEST:
            return None
        key = _key(ids)
        if (vector := self._vectors.get(key)) is not None:
            self._vectors.move_to_end(key)
        return vector

    def put(self, ids: tuple[int, ...], vector: np.ndarray) -> None:
        if len(ids) > LONGEST:
            return
        key = _key(ids)
        if key not in self._vectors:
            self._held += vector.nbytes
        self._vectors[key] = vector.copy()  # not a view that would keep the engine's whole batch
        while self._held > self._limit:
            self._held -= self._vectors.popitem(last=False)[1].nbytes


def _key(ids: tuple[int, ...]) -> bytes:
    return blake2b(np.asarray(ids, dtype="<u4").tobytes(), digest_size=16).digest()
