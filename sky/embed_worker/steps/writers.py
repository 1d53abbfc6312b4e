"""Writers of raw_reviews: rows with dense ids into parts, faults into rejects."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from embed_worker.lake import files, layout
from embed_worker.lake.files import FileRef
from embed_worker.lake.store import Store
from embed_worker.steps.columns import OWN, ExtraColumns

BATCH_ROWS, BATCH_BYTES = 16_384, 32 << 20
PART_BYTES = 256 << 20
REJECTS_SCHEMA = pa.schema(
    [("record", pa.int64()), ("id", pa.string()), ("reason", pa.string()), ("file", pa.string())]
)


class PartWriter:
    """Dense row ids into parts of bounded size."""

    def __init__(self, store: Store, folder: str, scratch: Path, extra: ExtraColumns) -> None:
        self._store, self._folder, self._scratch, self._extra = store, folder, scratch, extra
        own = [pa.field("row_id", pa.int64(), False), pa.field("id", pa.string(), False)]
        self._schema = pa.schema([*own, pa.field("text", pa.string(), False), *extra.fields])
        self._pending: list[tuple[Any, ...]] = []
        self._pending_bytes = self._part_bytes = self._part_rows = 0
        self._writer: pq.ParquetWriter | None = None
        self._parts: list[FileRef] = []
        self.rows = 0
        self.text_bytes = 0

    def add(self, id_: str, text: str, size: int, extra: list[Any]) -> None:
        """`size`: bytes of the text."""
        self._pending.append((self.rows, id_, text, *extra))
        self.rows += 1
        self.text_bytes += size
        self._pending_bytes += size + sum(len(v) if isinstance(v, str | bytes) else 16 for v in extra)
        if len(self._pending) >= BATCH_ROWS or self._pending_bytes >= BATCH_BYTES:
            self._flush()
            if self._part_bytes >= PART_BYTES:
                self._finish_part()

    def close(self) -> list[FileRef]:
        self._flush()
        self._finish_part()
        return self._parts

    def _flush(self) -> None:
        if not self._pending:
            return
        arrays = []
        for position, values in enumerate(zip(*self._pending, strict=True)):
            field = self._schema.field(position)
            if position < len(OWN):
                arrays.append(pa.array(values, field.type))
            else:
                arrays.append(self._extra.column(position - len(OWN), list(values), field))
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._local(), self._schema, compression="zstd")
        self._writer.write_table(pa.Table.from_arrays(arrays, schema=self._schema))
        self._part_rows += len(self._pending)
        self._part_bytes += self._pending_bytes
        self._pending, self._pending_bytes = [], 0

    def _finish_part(self) -> None:
        if self._writer is None:
            return
        self._writer.close()
        local = self._local()
        self._parts.append(files.publish(self._store, self._folder, local, local.name, self._part_rows))
        local.unlink(missing_ok=True)
        self._writer, self._part_rows, self._part_bytes = None, 0, 0

    def _local(self) -> Path:
        return self._scratch / layout.part_name(len(self._parts))


class RejectWriter:
    """The records that were set aside, each with its reason."""

    def __init__(self, local: Path) -> None:
        self._local = local
        self._writer: pq.ParquetWriter | None = None
        self._pending: list[tuple[int, str | None, str, str]] = []
        self.by_reason: dict[str, int] = {}

    def add(self, position: int, id_: str | None, reason: str, file: str) -> None:
        self.by_reason[reason] = self.by_reason.get(reason, 0) + 1
        self._pending.append((position, id_, reason, file))
        if len(self._pending) >= BATCH_ROWS:
            self._flush()

    def publish(self, store: Store, folder: str) -> FileRef | None:
        if not self.by_reason:
            return None
        self._flush()
        assert self._writer is not None
        self._writer.close()
        return files.publish(store, folder, self._local, layout.REJECTS, sum(self.by_reason.values()))

    def _flush(self) -> None:
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._local, REJECTS_SCHEMA)
        if self._pending:
            columns = [list(values) for values in zip(*self._pending, strict=True)]
            self._writer.write_table(pa.table(columns, schema=REJECTS_SCHEMA))
        self._pending = []
