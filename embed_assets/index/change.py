"""What is different between a table and a set. New rows are written first, old ones deleted after."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from embed_assets.index.record import IndexRecord
from embed_assets.index.rows import SetRows

ROWS_AT_ONCE = 1_000_000
"""Rows of the table whose digests are held; a stride with more is taken alone."""
DELETED_AT_ONCE = 10_000


class Difference:
    """The rows of a set that a table does not have, and the table's that the set does not have.

    Held against each other by a digest of all that a row is, strides that have not changed left out.
    """

    def __init__(self, table: Any, record: IndexRecord, rows: SetRows) -> None:
        """`table` is at the version of the record."""
        self._table, self._rows = table, rows
        units = rows.units
        self._changed = [s for s in sorted(units.keys() | record.units.keys()) if units.get(s) != record.units.get(s)]
        self._windows = rows.windows
        self.added = 0
        self._gone: list[np.ndarray] = []

    @property
    def gone(self) -> np.ndarray:
        """LanceDB's numbers of the rows that are not in the set; known once `new` has been read to its end."""
        return np.concatenate(self._gone) if self._gone else np.empty(0, np.uint64)

    def new(self) -> Iterator[pa.RecordBatch]:
        for strides in self._groups():
            there = self._table.search().where(f"stride IN ({', '.join(map(str, strides))})")
            found = there.select(["stride", "digest"]).with_row_id(True).to_arrow()
            for stride in strides:
                yield from self._of(stride, found.filter(pc.equal(found.column("stride"), stride)))

    def _groups(self) -> Iterator[list[int]]:
        group: list[int] = []
        size = 0
        for stride in self._changed:
            windows = self._windows.get(stride, 0)
            if group and size + windows > ROWS_AT_ONCE:
                yield group
                group, size = [], 0
            group.append(stride)
            size += windows
        if group:
            yield group

    def _of(self, stride: int, there: pa.Table) -> Iterator[pa.RecordBatch]:
        known = there.column("digest").combine_chunks()
        kept = np.zeros(len(known), bool)
        if stride in self._windows:
            for batch in self._rows.of(stride):
                places = pc.index_in(batch.column("digest"), value_set=known)
                kept[places.drop_null().to_numpy()] = True
                fresh = batch.filter(places.is_null())
                if fresh.num_rows:
                    self.added += fresh.num_rows
                    yield fresh
        self._gone.append(there.column("_rowid").to_numpy()[~kept])


def append(table: Any, batches: Iterator[pa.RecordBatch], schema: pa.Schema) -> None:
    """Adds rows in one version; without any, none is made."""
    first = next(batches, None)
    if first is None:
        return

    def all_of() -> Iterator[pa.RecordBatch]:
        yield first
        yield from batches

    table.add(pa.RecordBatchReader.from_batches(schema, all_of()))


def delete(table: Any, numbers: np.ndarray) -> None:
    """By LanceDB's own numbers, which adding rows does not change."""
    for at in range(0, len(numbers), DELETED_AT_ONCE):
        some: Sequence[int] = numbers[at : at + DELETED_AT_ONCE].tolist()
        table.delete(f"_rowid IN ({', '.join(map(str, some))})")
