"""Rows whose id an earlier row of the snapshot has, over all its parts: a pass over the ids alone, in bounded memory.

Ids are told apart by 64 bits of a hash first, in buckets of as many as memory holds; those that agree in it, by
themselves.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from embed_worker.lake.identity import RowsDigest, rows_digest
from embed_worker.lake.snapshots import PartRecord
from embed_worker.lake.store import Store
from embed_worker.steps.columns import LINE, RECORD
from embed_worker.steps.values import excerpt

BUCKET_ROWS = 16 << 20
BATCH_ROWS = 1 << 16
_PAIR = np.dtype([("hash", "<u8"), ("row", "<i8")])


@dataclass(frozen=True)
class Twin:
    """A row that is left out."""

    place: int
    """In its part's file."""
    record: int
    line: int
    id: str
    excerpt: str


@dataclass(frozen=True)
class Dropped:
    """The rows of a part that are left out."""

    twins: list[Twin]
    digest: RowsDigest

    @property
    def places(self) -> np.ndarray:
        return np.array([twin.place for twin in self.twins], np.int64)


def find_twins(store: Store, folder: str, parts: Sequence[PartRecord], scratch: Path) -> dict[int, Dropped]:
    """By part, as they are numbered. The first row of an id stays."""
    firsts = np.cumsum([0, *(part.rows for part in parts)])
    suspects: list[np.ndarray] = []
    for pairs in _buckets(store, folder, parts, scratch):
        if not len(pairs):
            continue
        order = np.argsort(pairs["hash"], kind="stable")
        hashes = pairs["hash"][order]
        same = hashes[1:] == hashes[:-1]
        agreeing = np.concatenate([same, [False]]) | np.concatenate([[False], same])
        suspects.append(pairs["row"][order[agreeing]])
    rows = np.sort(np.concatenate(suspects)) if suspects else np.empty(0, np.int64)
    found: dict[int, Dropped] = {}
    known: set[str] = set()
    for at in np.unique(np.searchsorted(firsts, rows, side="right") - 1):
        low, high = np.searchsorted(rows, firsts[at : at + 2])
        places = rows[low:high] - firsts[at]
        path = f"{folder}/{parts[at].file.path}"
        ids = _taken(store, path, places, ["id"]).column("id").to_pylist()
        again: list[int] = []
        for place, id_ in zip(places.tolist(), ids, strict=True):
            if id_ in known:
                again.append(place)
            known.add(id_)
        if again:
            found[int(at)] = _dropped(store, path, np.array(again))
    return found


def _dropped(store: Store, path: str, places: np.ndarray) -> Dropped:
    table = _taken(store, path, places, ["id", "text", "text_key", RECORD, LINE])
    columns = {name: table.column(name).to_pylist() for name in table.column_names}
    twins = [
        Twin(place, record, line, id_, excerpt(text))
        for place, record, line, id_, text in zip(
            places.tolist(), columns[RECORD], columns[LINE], columns["id"], columns["text"], strict=True
        )
    ]
    return Dropped(twins, rows_digest(columns["id"], columns["text_key"]))


def _taken(store: Store, path: str, places: np.ndarray, columns: list[str]) -> pa.Table:
    """Some rows of a part."""
    found = []
    with store.open(path) as source:
        first = 0
        for batch in pq.ParquetFile(source).iter_batches(BATCH_ROWS, columns=columns):
            low, high = np.searchsorted(places, (first, first + batch.num_rows))
            if high > low:
                found.append(batch.take(pa.array(places[low:high] - first)))
            first += batch.num_rows
    return pa.Table.from_batches(found).select(columns)


def _buckets(store: Store, folder: str, parts: Sequence[PartRecord], scratch: Path) -> Iterator[np.ndarray]:
    """All rows as (hash, row), equal hashes in one bucket."""
    total = sum(part.rows for part in parts)
    bits = max(0, (total - 1) // BUCKET_ROWS).bit_length()
    if bits == 0:
        held = list(_hashed(store, folder, parts))
        yield np.concatenate(held) if held else np.empty(0, _PAIR)
        return
    paths = [scratch / f"ids-{at:04d}" for at in range(1 << bits)]
    sinks = [path.open("wb") for path in paths]
    try:
        for pairs in _hashed(store, folder, parts):
            which = pairs["hash"] >> np.uint64(64 - bits)
            order = np.argsort(which, kind="stable")
            bounds = np.searchsorted(which[order], np.arange(len(paths) + 1))
            for at, sink in enumerate(sinks):
                pairs[order[bounds[at] : bounds[at + 1]]].tofile(sink)
    finally:
        for sink in sinks:
            sink.close()
    for path in paths:
        yield np.fromfile(path, _PAIR)
        path.unlink()


def _hashed(store: Store, folder: str, parts: Sequence[PartRecord]) -> Iterator[np.ndarray]:
    import polars as pl

    row = 0
    for part in parts:
        if not part.rows:
            continue
        with store.open(f"{folder}/{part.file.path}") as source:
            for batch in pq.ParquetFile(source).iter_batches(BATCH_ROWS, columns=["id"]):
                pairs = np.empty(batch.num_rows, _PAIR)
                pairs["hash"] = pl.Series(batch.column("id"), dtype=pl.String).hash().to_numpy()
                pairs["row"] = np.arange(row, row + batch.num_rows)
                row += batch.num_rows
                yield pairs
