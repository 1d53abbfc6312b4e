"""The rows of one stride: where they lie in the slices, how they are brought, proved and ordered."""

import os
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

from embed_worker.lake.errors import DamagedData
from embed_worker.lake.files import LakePath
from embed_worker.lake.identity import KEY_TYPE, RowsDigest, array_keys, array_row_words, digest_of_words, key_words
from embed_worker.lake.store import Store

SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("text_key", KEY_TYPE, nullable=False),
        pa.field("text", pa.string(), nullable=False),
    ]
)
"""Of slices, and of a stride's rows."""
BATCH_ROWS, BATCH_BYTES = 4096, 4 << 20
"""A stride's rows of one slice lie in batches of at most this: what a merge holds of each slice."""
WHOLE_BYTES = 128 << 20
"""A stride of slices that are smaller together is sorted at once, not merged."""
READS = 16
STARVED = re.compile(r"worker thread|[Cc]annot allocate|[Oo]ut of memory|Too many open files|malloc|realloc")
"""Of errors of Arrow: a limit of this machine."""


class Span(BaseModel):
    """A stride's rows in one slice: a range of its file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: LakePath
    """Relative to the lake."""
    offset: Annotated[int, Field(ge=0)]
    length: Annotated[int, Field(ge=1)]
    rows: Annotated[int, Field(ge=1)]
    digest: str
    """Of its rows."""


class Stride:
    """A stride's spans on this machine, to be read as often as wanted, in the order of text_key and id.

    That order is one of the rows alone: whatever slices they come from, every attempt cuts its checkpoints alike.
    """

    def __init__(self, spans: Sequence[Span], data: Sequence[pa.Buffer]) -> None:
        self._spans, self._data = spans, data

    def batches(self) -> Iterator[pa.Table]:
        """All rows in order, some at a time. Raises DamagedData where a span is no rows."""
        if sum(span.length for span in self._spans) <= WHOLE_BYTES:
            tables = [table for run in self._runs() for table in run]
            if tables:
                yield in_order(pa.concat_tables(tables))
            return
        yield from _merged(self._runs())

    def tables(self, size: int) -> Iterator[pa.Table]:
        """The same in tables of exactly `size` rows; the last may be shorter."""
        pending: list[pa.Table] = []
        held = 0
        for table in self.batches():
            pending.append(table)
            held += table.num_rows
            while held >= size:
                whole = pa.concat_tables(pending)
                yield whole.slice(0, size)
                rest = whole.slice(size)
                pending, held = [rest], rest.num_rows
        if held:
            yield pa.concat_tables(pending)

    def unordered(self) -> Iterator[pa.Table]:
        """All rows as they lie, some at a time. Raises DamagedData where a span is no rows."""
        for run in self._runs():
            yield from run

    def prove(self, digest: RowsDigest) -> None:
        """Raises DamagedData where these are not the rows with this digest: each text is held against its key."""
        found = RowsDigest()
        for run, span in zip(self._runs(), self._spans, strict=True):
            rows = RowsDigest()
            for table in run:
                keys = table.column("text_key").combine_chunks()
                if not array_keys(table.column("text").combine_chunks()).equals(keys):
                    raise DamagedData(f"{span.path} holds a text that is not its key's")
                rows += digest_of_words(array_row_words(table.column("id"), keys))
            if rows != RowsDigest.parse(span.rows, span.digest):
                raise DamagedData(f"{span.path} does not hold the rows of the stride that its commit says")
            found += rows
        if found != digest:
            raise DamagedData(
                f"the slices hold {found.rows:,} rows with digest {found}, the stride has {digest.rows:,} with {digest}"
            )

    def _runs(self) -> list[Iterator[pa.Table]]:
        return [_messages(span, data) for span, data in zip(self._spans, self._data, strict=True)]


def bring(store: Store, spans: Sequence[Span], scratch: Path) -> Stride:
    """A stride's rows on this machine. Raises DamagedData where a slice is missing or cut."""
    if store.is_local:
        return Stride(spans, [_mapped(store, span) for span in spans])
    local = scratch / f"stride-{os.urandom(4).hex()}.rows"
    with ThreadPoolExecutor(READS) as pool, local.open("wb") as sink:
        for span, data in zip(spans, pool.map(lambda span: _read(store, span), spans), strict=True):
            if len(data) != span.length:
                raise DamagedData(f"{store.url(span.path)} is cut off")
            sink.write(data)
    whole = pa.memory_map(str(local)).read_buffer() if spans else pa.py_buffer(b"")
    ends = np.cumsum([0, *(span.length for span in spans)])
    return Stride(spans, [whole.slice(int(at), span.length) for at, span in zip(ends[:-1], spans, strict=True)])


def _read(store: Store, span: Span) -> bytes:
    try:
        return store.read_range(span.path, span.offset, span.length)
    except FileNotFoundError as error:
        raise DamagedData(f"{store.url(span.path)} is missing") from error


def _mapped(store: Store, span: Span) -> pa.Buffer:
    try:
        whole = pa.memory_map(store.path(span.path)).read_buffer()
    except FileNotFoundError as error:
        raise DamagedData(f"{store.url(span.path)} is missing") from error
    except (OSError, pa.ArrowException) as error:
        if STARVED.search(str(error)):
            raise
        raise DamagedData(f"{store.url(span.path)}: {error}") from error
    if whole.size < span.offset + span.length:
        raise DamagedData(f"{store.url(span.path)} is cut off")
    return whole.slice(span.offset, span.length)


def _messages(span: Span, data: pa.Buffer) -> Iterator[pa.Table]:
    source = pa.BufferReader(data)
    while source.tell() < data.size:
        try:
            batch = pa.ipc.read_record_batch(pa.ipc.read_message(source), SCHEMA)
            batch.validate(full=True)
        except (pa.ArrowException, OSError, EOFError, ValueError) as error:
            if STARVED.search(str(error)):
                raise  # this machine, not the file
            raise DamagedData(f"{span.path} is damaged: {error}") from error
        yield pa.Table.from_batches([batch])


def in_order(table: pa.Table) -> pa.Table:
    """Rows by text_key, then id."""
    return table.take(order(table.column("text_key"), table.column("id")))


def order(keys: pa.ChunkedArray, ids: pa.ChunkedArray, first: np.ndarray | None = None) -> np.ndarray:
    """Places of rows by `first`, text_key and id."""
    words = key_words(keys).astype(np.uint64)
    high, low = words[:, 0] << np.uint64(32) | words[:, 1], words[:, 2] << np.uint64(32) | words[:, 3]
    by = (low, high) if first is None else (low, high, first)
    found = np.lexsort(by)
    same = np.ones(max(len(found) - 1, 0), bool)
    for column in by:
        same &= column[found][1:] == column[found][:-1]
    if same.any():  # equal texts, by their ids
        edges = np.flatnonzero(np.diff(np.concatenate([[False], same, [False]]).astype(np.int8)))
        for begin, end in zip(edges[::2], edges[1::2], strict=True):
            run = found[begin : end + 1]
            names = [id_.encode() for id_ in ids.take(pa.array(run)).to_pylist()]
            found[begin : end + 1] = run[sorted(range(len(run)), key=names.__getitem__)]
    return found


def _merged(runs: list[Iterator[pa.Table]]) -> Iterator[pa.Table]:
    """Ordered runs as one, holding a batch of each: up to the least of the last rows, all of them are here."""
    heads: list[tuple[pa.Table, Iterator[pa.Table]]] = []
    for run in runs:
        if (table := next(run, None)) is not None:
            heads.append((table, run))
    while heads:
        bound = min(_row(table, table.num_rows - 1) for table, _ in heads)
        ready, waiting = [], []
        for table, run in heads:
            rows = _place(table, bound)
            ready.append(table.slice(0, rows))
            rest: pa.Table | None = table.slice(rows)
            if rows == table.num_rows:
                rest = next(run, None)
            if rest is not None:
                waiting.append((rest, run))
        heads = waiting
        yield in_order(pa.concat_tables(ready))


def _row(table: pa.Table, at: int) -> tuple[bytes, bytes]:
    return table.column("text_key")[at].as_py(), table.column("id")[at].as_py().encode()


def _place(table: pa.Table, bound: tuple[bytes, bytes]) -> int:
    """How many rows of an ordered table are not beyond a bound."""
    low, high = 0, table.num_rows
    while low < high:
        middle = (low + high) // 2
        if _row(table, middle) <= bound:
            low = middle + 1
        else:
            high = middle
    return low
