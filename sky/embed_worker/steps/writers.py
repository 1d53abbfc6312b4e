"""Rows of a part as they are gathered in memory, and the file that they become."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from embed_worker.lake.identity import KEY_TYPE, RowsDigest, array_row_words, digest_of_words, rows_digest, text_keys
from embed_worker.steps.columns import LINE, RECORD, ExtraColumns
from embed_worker.steps.fast.block import Block
from embed_worker.steps.readers.base import Row
from embed_worker.steps.types import ColumnType, conform, merged, type_of

BATCH_ROWS, BATCH_BYTES = 16_384, 32 << 20
ID = pa.field("id", pa.string(), False)
OWN_FIELDS = [
    pa.field("text", pa.string(), False), pa.field("text_key", KEY_TYPE, False),
    pa.field(RECORD, pa.int64(), False), pa.field(LINE, pa.int64(), False),
]  # fmt: skip
"""Beside `id`, which a part has where the spec has a template of it."""
REJECTS_SCHEMA = pa.schema(
    [("record", pa.int64()), ("id", pa.string()), ("reason", pa.string()), ("line", pa.int64()),
     ("detail", pa.string()), ("excerpt", pa.string())]
)  # fmt: skip


class Gathered:
    """The rows of a part, whose columns get the types that its values need."""

    def __init__(self, extra: ExtraColumns, *, has_ids: bool) -> None:
        self._extra, self._has_ids = extra, has_ids
        self._own: list[tuple[str, str, int, int]] = []
        self._records: list[dict[str, Any]] = []
        self._batch: pa.Table | None = None
        """Of Parquet: where the pending rows are, at `_places`."""
        self._places: list[int] = []
        self._pending_bytes = 0
        self.tables: list[pa.Table] = []
        self.bytes = 0
        self.rows = 0
        self.text_bytes = 0
        self.digest = RowsDigest()

    def add(self, id_: str, text: str, size: int, record: int, line: int, row: Row) -> None:
        """`size`: bytes of the text; `record`: its place in the part; `line`: in the range."""
        if row.rest is not self._batch:
            self.flush()
            self._batch = row.rest
        if row.rest is None:
            assert isinstance(row.record, dict)
            self._records.append(row.record)
            self._pending_bytes += sum(len(v) if isinstance(v, str) else 16 for v in row.record.values())
        else:
            self._places.append(row.at)
        self._own.append((id_, text, record, line))
        self.rows += 1
        self.text_bytes += size
        self._pending_bytes += size
        if len(self._own) >= BATCH_ROWS or self._pending_bytes >= BATCH_BYTES:
            self.flush()

    def add_block(self, block: Block, records: int, lines: int) -> None:
        """`records`, `lines`: how many of the part and of the range are before the block."""
        self.flush()
        own = {name: block.own.column(name) for name in block.own.column_names}
        own[RECORD], own[LINE] = pc.add(own[RECORD], records), pc.add(own[LINE], lines)
        others = {name: block.columns.column(name) for name in block.columns.column_names}
        table = pa.table({**{name: own[name] for name in own_names(self._has_ids)}, **others})
        if self._has_ids:
            self.digest += digest_of_words(array_row_words(table.column("id"), table.column("text_key")))
        self.tables.append(table)
        self.rows += table.num_rows
        self.text_bytes += block.text_bytes
        self.bytes += table.nbytes

    def flush(self) -> None:
        """Pending rows become a table."""
        if not self._own:
            return
        ids, texts, records, lines = zip(*self._own, strict=True)
        keys = text_keys(texts)
        if self._has_ids:
            self.digest += rows_digest(ids, keys)
        values = (texts, keys, records, lines)
        own = [pa.array(ids, pa.string())] if self._has_ids else []
        own += [pa.array(column, field.type) for column, field in zip(values, OWN_FIELDS, strict=True)]
        if self._batch is None:
            extra = self._extra.of_records(self._records)
        else:
            extra = self._extra.of_table(self._batch.take(pa.array(self._places, pa.int64())))
        table = pa.Table.from_arrays([*own, *extra.values()], names=[*own_names(self._has_ids), *extra])
        self._own, self._records, self._places, self._pending_bytes = [], [], [], 0
        self.tables.append(table)
        self.bytes += table.nbytes


def own_fields(has_ids: bool) -> list[pa.Field]:
    return [ID, *OWN_FIELDS] if has_ids else OWN_FIELDS


def own_names(has_ids: bool) -> list[str]:
    return [field.name for field in own_fields(has_ids)]


def types_of(tables: list[pa.Table], *, has_ids: bool) -> dict[str, ColumnType]:
    """Of the other columns, such that each holds all its values."""
    types: dict[str, ColumnType] = {}
    own = set(own_names(has_ids))
    for table in tables:
        merged(types, {name: type_of(table.column(name)) for name in table.column_names if name not in own})
    return types


def schema_of(types: dict[str, ColumnType], *, has_ids: bool) -> pa.Schema:
    return pa.schema([*own_fields(has_ids), *(pa.field(name, kind.type) for name, kind in types.items())])


def write_part(local: Path, tables: list[pa.Table], schema: pa.Schema) -> None:
    # No dictionaries: zstd finds what repeats as well, and in less time than it takes to build them.
    with pq.ParquetWriter(
        local, schema, compression="zstd", use_dictionary=False, write_statistics=_counted(schema),
        column_encoding={RECORD: "DELTA_BINARY_PACKED", LINE: "DELTA_BINARY_PACKED"},
    ) as writer:  # fmt: skip
        for table in _joined(tables):
            writer.write_table(conform(table, schema))


def _counted(schema: pa.Schema) -> list[str]:
    """The least and the greatest text tell nothing."""
    own = {ID.name, *(field.name for field in OWN_FIELDS)}
    return [field.name for field in schema if field.name not in own and not pa.types.is_string(field.type)]


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
