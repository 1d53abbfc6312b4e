"""What a row and a set of rows are, wherever they lie: keys of texts, and digests that can be added up."""

import hashlib
import itertools
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

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
    return pa.Array.from_buffers(KEY_TYPE, len(texts), [None, pa.py_buffer(_hashed(texts))])


def _hashed(values: pa.StringArray | pa.BinaryArray) -> bytes:
    """The hash of each value, one after another."""
    blake2b = hashlib.blake2b
    _, ends, data = values.buffers()
    places = (
        np.frombuffer(ends, "<i4")[values.offset : values.offset + len(values) + 1].tolist() if len(values) else [0]
    )
    said = data.to_pybytes() if data else b""
    return b"".join([blake2b(said[a:b], digest_size=KEY_BYTES).digest() for a, b in itertools.pairwise(places)])


def key_words(keys: pa.Array) -> np.ndarray:
    """Keys as four unsigned 32-bit numbers each, the first the most significant: shape [n, 4]."""
    keys = keys.combine_chunks() if isinstance(keys, pa.ChunkedArray) else keys
    data = np.frombuffer(keys.buffers()[1] or b"", np.uint8)
    at = keys.offset * KEY_BYTES
    return data[at : at + len(keys) * KEY_BYTES].view(">u4").reshape(-1, KEY_BYTES // 4)


def sortable(keys: pa.Array) -> np.ndarray:
    """Keys as one array that numpy compares as bytes are compared. Not to be taken out one by one: a key that ends in
    zeros would lose them."""
    return np.ascontiguousarray(key_words(keys)).view(f"S{KEY_BYTES}").reshape(-1)


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
    def of_sums(cls, rows: int, sums: Iterable[int]) -> "RowsDigest":
        """From sums of the four 32-bit numbers of the rows' digests, whether carried over or not."""
        return cls(rows, sum(int(word) << 32 * at for at, word in enumerate(sums)) % _MODULUS)

    @classmethod
    def parse(cls, rows: int, text: str) -> "RowsDigest":
        """The inverse of `str`."""
        return cls(rows, int(text, 16))


def row_words(ids: Iterable[str], keys: Iterable[bytes]) -> np.ndarray:
    """The digest of each row, by its id and the key of its text, as four 32-bit numbers. Part of the lake's format."""
    blake2b = hashlib.blake2b
    each = b"".join(
        blake2b(key + id_.encode(), digest_size=KEY_BYTES).digest() for id_, key in zip(ids, keys, strict=True)
    )
    return np.frombuffer(each, "<u4").reshape(-1, KEY_BYTES // 4)


def array_row_words(ids: pa.StringArray | pa.ChunkedArray, keys: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """The same of Arrow arrays that have no null."""
    ids, keys = (one.combine_chunks() if isinstance(one, pa.ChunkedArray) else one for one in (ids, keys))
    each = _hashed(pc.binary_join_element_wise(keys.cast(pa.binary()), ids.cast(pa.binary()), b""))
    return np.frombuffer(each, "<u4").reshape(-1, KEY_BYTES // 4)


def digest_of_words(words: np.ndarray) -> RowsDigest:
    """Of rows whose own digests these are."""
    return RowsDigest.of_sums(len(words), words.sum(axis=0, dtype=np.uint64))  # which holds the sum of 2^32 of them


def sums_of(words: np.ndarray, bounds: np.ndarray) -> np.ndarray:
    """The digests' sums modulo 2^128 of consecutive groups of rows, as four 32-bit numbers: shape [groups, 4]."""
    cumulated = np.concatenate([np.zeros((1, words.shape[1]), np.uint64), np.cumsum(words, axis=0, dtype=np.uint64)])
    sums = cumulated[bounds[1:]] - cumulated[bounds[:-1]]
    found, carry = np.empty((len(sums), words.shape[1]), np.uint32), np.zeros(len(sums), np.uint64)
    for at in range(words.shape[1]):
        whole = sums[:, at] + carry
        found[:, at] = (whole & np.uint64(0xFFFFFFFF)).astype(np.uint32)
        carry = whole >> np.uint64(32)
    return found


def rows_digest(ids: Iterable[str], keys: Iterable[bytes]) -> RowsDigest:
    """The digest of these rows."""
    return digest_of_words(row_words(ids, keys))
