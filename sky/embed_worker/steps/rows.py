"""The rows of a snapshot as readers take them, part by part: with row ids, without what the snapshot leaves out."""

import base64
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from embed_worker.lake import files
from embed_worker.lake.deltas import Rows
from embed_worker.lake.identity import KEY_TYPE
from embed_worker.lake.snapshots import RawManifest, RawPart
from embed_worker.lake.store import Store
from embed_worker.steps.columns import RECORD
from embed_worker.steps.types import cast

COLUMNS = ("row_id", "id", "text", "text_key")
OWN = {"row_id": pa.int64(), "id": pa.string(), "text": pa.string(), "text_key": KEY_TYPE}
BATCH_ROWS, BATCH_BYTES = 16_384, 32 << 20


def part_rows(
    store: Store, raw: Rows, part: RawPart, scratch: Path, columns: Sequence[str] = COLUMNS
) -> Iterator[pa.RecordBatch]:
    """The rows of a part as the snapshot gives them: row ids are dense and ascending over all its parts.

    Raises DamagedData where the part's file is not the one that the snapshot lists.
    """
    local = files.fetch(store, raw.folder, part.file, scratch)
    with pq.ParquetFile(local) as parquet:
        yield from rows_of_file(parquet, part, columns)
    if not store.is_local:
        local.unlink()


def rows_of_file(
    parquet: pq.ParquetFile, part: RawPart, columns: Sequence[str] = COLUMNS, groups: Sequence[int] | None = None
) -> Iterator[pa.RecordBatch]:
    """The same of an open file, of all row groups or of some in ascending order."""
    about = parquet.metadata
    groups = range(about.num_row_groups) if groups is None else groups
    there = set(parquet.schema_arrow.names)
    stored = [name for name in columns if name in there]
    if part.default_ids and "id" in columns:
        stored.append(RECORD)
    for group in groups:
        first = sum(about.row_group(at).num_rows for at in range(group))
        size = max(about.row_group(group).total_byte_size, 1)
        rows = max(1, min(BATCH_ROWS, BATCH_BYTES * about.row_group(group).num_rows // size))
        if not stored:  # row ids alone
            batches: Iterator[pa.RecordBatch] = iter([_counted(about.row_group(group).num_rows)])
        else:
            batches = parquet.iter_batches(batch_size=rows, columns=stored, row_groups=[group])
        for batch in batches:
            yield _given(batch, part, columns, first)
            first += batch.num_rows


def _counted(rows: int) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([pa.nulls(rows)], names=[""])


def _given(batch: pa.RecordBatch, part: RawPart, columns: Sequence[str], first: int) -> pa.RecordBatch:
    """`first`: place in the file of the batch's first row."""
    places = np.arange(first, first + batch.num_rows)
    gone = part.dropped_rows
    begin, end = np.searchsorted(gone, (first, first + batch.num_rows))
    row_ids = part.first_row + places - begin
    if end > begin:
        mask = ~np.isin(places, gone[begin:end])
        batch = batch.filter(pa.array(mask))
        row_ids = part.first_row + first - int(begin) + np.arange(batch.num_rows)
    arrays = []
    for name in columns:
        if name == "row_id":
            arrays.append(pa.array(row_ids, pa.int64()))
        elif name == "id" and part.default_ids:
            positions = batch.column(RECORD).to_numpy() + part.first_record
            arrays.append(pa.array(positions, pa.int64()).cast(pa.string()))
        else:
            arrays.append(batch.column(name))
    return pa.RecordBatch.from_arrays(arrays, names=list(columns))


def schema_of(raw: RawManifest) -> pa.Schema:
    """Of all rows of a snapshot, with all columns."""
    return pa.ipc.read_schema(pa.py_buffer(base64.b64decode(raw.arrow_schema)))


def whole_rows(
    store: Store, raw: RawManifest, part: RawPart, scratch: Path, columns: Sequence[str] | None = None
) -> Iterator[pa.RecordBatch]:
    """The rows of a part with all columns of the snapshot, or with some, in its types."""
    schema = schema_of(raw)
    if columns is not None:
        schema = pa.schema([schema.field(name) for name in columns])
    local = files.fetch(store, raw.folder, part.file, scratch)
    with pq.ParquetFile(local) as parquet:
        there = set(parquet.schema_arrow.names)
        known = [name for name in schema.names if name in OWN or name in there]
        for batch in rows_of_file(parquet, part, known):
            arrays = [
                cast(batch.column(field.name), field.type) if field.name in known
                else pa.nulls(batch.num_rows, field.type)
                for field in schema
            ]  # fmt: skip
            yield pa.RecordBatch.from_arrays(arrays, schema=schema)
    if not store.is_local:
        local.unlink()


REJECTS_SCHEMA = pa.schema(
    [("record", pa.int64()), ("id", pa.string()), ("reason", pa.string()), ("file", pa.string()),
     ("line", pa.int64()), ("detail", pa.string()), ("excerpt", pa.string())]
)  # fmt: skip


def part_rejects(store: Store, raw: RawManifest, part: RawPart) -> pa.Table:
    """The records of a part that were set aside, each with its place in the source."""
    if part.rejects is None:
        return REJECTS_SCHEMA.empty_table()
    with store.open(f"{raw.folder}/{part.rejects.path}") as source:
        table = pq.read_table(source)
    records = table.column("record").to_numpy() + part.first_record
    ids = table.column("id").to_pylist()
    if part.default_ids:
        ids = [str(record) if id_ == "" else id_ for id_, record in zip(ids, records, strict=True)]
    return pa.table(
        {
            **{name: table.column(name) for name in ("reason", "detail", "excerpt")},
            "record": records,
            "id": pa.array(ids, pa.string()),
            "file": pa.array([raw.source[part.source].url] * table.num_rows, pa.string()),
            "line": table.column("line").to_numpy() + part.first_line,
        }
    ).select(REJECTS_SCHEMA.names)


def all_rejects(store: Store, raw: RawManifest) -> Iterator[pa.Table]:
    """Those of each part, then the rows whose id was there before."""
    for part in raw.parts:
        yield part_rejects(store, raw, part)
    if raw.rejects is not None:
        with store.open(f"{raw.folder}/{raw.rejects.path}") as source:
            yield pq.read_table(source)
