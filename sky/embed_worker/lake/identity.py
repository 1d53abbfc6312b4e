"""What a row and a set of rows are, wherever they lie: keys of texts, and digests that can be added up."""

import hashlib
import itertools
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

KEY_BYTES = 16
KEY_TYPE = pa.binary(KEY_BYTES)
_MODULUS = 1 << 8 * KEY_BYTES


def text_key(text: str) -> bytes:
    """128 bits of a text as it is embedded: texts are equal where their keys are. Part of the lake's format."""
    return hashlib.blake2b(text.encode(), digest_size=KEY_BYTES).digest()


def text_keys(texts: Iterable[str]) -> list[bytes]:
    """The key of each."""
    blake2b = hashlib.blake2b
    return [blake2b(text.encode(), digest_size=KEY_BYTES).digest() for text in texts]


def array_keys(texts: pa.StringArray) -> pa.Array:
    """The key of each text of an Arrow array that has no null."""
    blake2b = hashlib.blake2b
    _, ends, data = texts.buffers()
    places = np.frombuffer(ends, "<i4")[texts.offset : texts.offset + len(texts) + 1].tolist() if len(texts) else [0]
    said = data.to_pybytes() if data else b""
    keys = b"".join([blake2b(said[a:b], digest_size=KEY_BYTES).digest() for a, b in itertools.pairwise(places)])
    return pa.Array.from_buffers(KEY_TYPE, len(texts), [None, pa.py_buffer(keys)])


@dataclass(frozen=True)
class RowsDigest:
    """A set of rows, told from any other by 128 bits whatever their order. Sets that share no row are added."""

    rows: int = 0
    total: int = 0
    """Sum of the rows' digests modulo 2^128."""

    def __add__(self, other: "RowsDigest") -> "RowsDigest":
        return RowsDigest(self.rows + other.rows, (self.total + other.total) % _MODULUS)

    def __sub__(self, other: "RowsDigest") -> "RowsDigest":
        return RowsDigest(self.rows - other.rows, (self.total - other.total) % _MODULUS)

    def __str__(self) -> str:
        return f"{self.total:032x}"

    @classmethod
    def parse(cls, rows: int, text: str) -> "RowsDigest":
        """The inverse of `str`."""
        return cls(rows, int(text, 16))


def rows_digest(ids: Iterable[str], keys: Iterable[bytes]) -> RowsDigest:
    """The digest of rows by their ids and the keys of their texts. Part of the lake's format."""
    blake2b = hashlib.blake2b
    each = b"".join(
        blake2b(key + id_.encode(), digest_size=KEY_BYTES).digest() for id_, key in zip(ids, keys, strict=True)
    )
    words = np.frombuffer(each, "<u4").reshape(-1, KEY_BYTES // 4)  # of 32 bits: 64 hold the sum of 2^32 of them
    sums = words.sum(axis=0, dtype=np.uint64)
    return RowsDigest(len(words), sum(int(word) << 32 * at for at, word in enumerate(sums)) % _MODULUS)
