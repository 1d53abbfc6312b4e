"""Writers of raw_reviews: rows with dense ids into parts, faults into rejects."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from embed_worker.lake import files, layout
from embed_worker.lake.files import FileRef
from embed_worker.lake.store import Store
from embed_worker.steps.columns import ExtraColumns
from embed_worker.steps.readers.base import Row
from embed_worker.steps.types import ColumnType, conform, merged, type_of

BATCH_ROWS, BATCH_BYTES = 16_384, 32 << 20
PART_BYTES = 128 << 20
"""Held in memory until the part's types are known."""
OWN_FIELDS = [
    pa.field("row_id", pa.int64(), False), pa.field("id", pa.string(), False), pa.field("text", pa.string(), False),
]  # fmt: skip
REJECTS_SCHEMA = pa.schema(
    [("record", pa.int64()), ("id", pa.string()), ("reason", pa.string()), ("file", pa.string()),
     ("line", pa.int64()), ("detail", pa.string()), ("excerpt", pa.string())]
)  # fmt: skip


class PartWriter:
    """Dense row ids into parts of bounded size. Each part has the columns and types that its own rows need."""

    def __init__(self, store: Store, folder: str, scratch: Path, extra: ExtraColumns) -> None:
        self._store, self._folder, self._scratch, self._extra = store, folder, scratch, extra
        self._ids: list[str] = []
        self._texts: list[str] = []
        self._records: list[dict[str, Any]] = []
        self._batch: pa.Table | None = None
        """Of Parquet: where the pending rows are, at `_places`."""
        self._places: list[int] = []
        self._pending_bytes = self._part_bytes = 0
        self._tables: list[pa.Table] = []
        self._parts: list[FileRef] = []
        self.types: dict[str, ColumnType] = {}
        """Of all columns so far, over all parts."""
        self.rows = 0
        self.text_bytes = 0

    def add(self, id_: str, text: str, size: int, row: Row) -> None:
        """`size`: bytes of the text."""
        if row.rest is not self._batch:
            self._flush()
            self._batch = row.rest
        if row.rest is None:
            assert isinstance(row.record, dict)
            self._records.append(row.record)
            self._pending_bytes += sum(len(v) if isinstance(v, str) else 16 for v in row.record.values())
        else:
            self._places.append(row.at)
        self._ids.append(id_)
        self._texts.append(text)
        self.rows += 1
        self.text_bytes += size
        self._pending_bytes += size
        if len(self._ids) >= BATCH_ROWS or self._pending_bytes >= BATCH_BYTES:
            self._flush()

    def close(self) -> list[FileRef]:
        self._flush()
        self._finish_part()
        return self._parts

    @property
    def schema(self) -> pa.Schema:
        """The union of the parts' columns, in types that hold all values."""
        return pa.schema([*OWN_FIELDS, *(pa.field(name, kind.type) for name, kind in self.types.items())])

    def _flush(self) -> None:
        if not self._ids:
            return
        first = self.rows - len(self._ids)
        own = [
            pa.array(range(first, self.rows), pa.int64()),
            pa.array(self._ids, pa.string()),
            pa.array(self._texts, pa.string()),
        ]
        if self._batch is None:
            extra = self._extra.of_records(self._records)
        else:
            extra = self._extra.of_table(self._batch.take(pa.array(self._places, pa.int64())))
        names = [field.name for field in OWN_FIELDS]
        table = pa.Table.from_arrays([*own, *extra.values()], names=[*names, *extra])
        self._ids, self._texts, self._records, self._places, self._pending_bytes = [], [], [], [], 0
        self._tables.append(table)
        self._part_bytes += table.nbytes
        if self._part_bytes >= PART_BYTES:
            self._finish_part()

    def _finish_part(self) -> None:
        if not self._tables:
            return
        types: dict[str, ColumnType] = {}
        for table in self._tables:
            merged(types, {name: type_of(table.column(name)) for name in table.column_names[len(OWN_FIELDS) :]})
        merged(self.types, types)
        schema = pa.schema([*OWN_FIELDS, *(pa.field(name, kind.type) for name, kind in types.items())])
        local = self._scratch / layout.part_name(len(self._parts))
        rows = 0
        with pq.ParquetWriter(local, schema, compression="zstd") as writer:
            for table in _joined(self._tables):
                writer.write_table(conform(table, schema))
                rows += table.num_rows
        self._parts.append(files.publish(self._store, self._folder, local, local.name, rows))
        local.unlink(missing_ok=True)
        self._tables, self._part_bytes = [], 0


def _joined(tables: list[pa.Table]) -> list[pa.Table]:
    """Small neighbours of one schema as one: they become one row group."""
    found: list[list[pa.Table]] = []
    for table in tables:
        last = found[-1] if found else None
        if last and last[0].schema == table.schema and sum(t.num_rows for t in last) + table.num_rows <= BATCH_ROWS:
            last.append(table)
        else:
            found.append([table])
    return [pa.concat_tables(group) for group in found]


class RejectWriter:
    """The records that were set aside, each with its place and its reason."""

    def __init__(self, local: Path) -> None:
        self._local = local
        self._writer: pq.ParquetWriter | None = None
        self._pending: list[tuple[int, str | None, str, str, int, str, str]] = []
        self.by_reason: dict[str, int] = {}
        self.first: list[str] = []
        """The first three, a sentence each."""

    @property
    def rows(self) -> int:
        return sum(self.by_reason.values())

    def add(self, position: int, id_: str | None, reason: str, file: str, line: int, detail: str, shown: str) -> None:
        self.by_reason[reason] = self.by_reason.get(reason, 0) + 1
        if len(self.first) < 3:
            self.first.append(f"{file} line {line}: {reason}{f' ({detail})' if detail else ''}: {shown!r}")
        self._pending.append((position, id_, reason, file, line, detail, shown))
        if len(self._pending) >= BATCH_ROWS:
            self._flush()

    def publish(self, store: Store, folder: str) -> FileRef | None:
        if not self.by_reason:
            return None
        self._flush()
        assert self._writer is not None
        self._writer.close()
        return files.publish(store, folder, self._local, layout.REJECTS, self.rows)

    def _flush(self) -> None:
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._local, REJECTS_SCHEMA)
        if self._pending:
            columns = [list(values) for values in zip(*self._pending, strict=True)]
            self._writer.write_table(pa.table(columns, schema=REJECTS_SCHEMA))
        self._pending = []
