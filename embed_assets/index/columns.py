"""The columns that a search can filter by: of a snapshot's rows, sorted into files by stride, to be joined by id."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from embed_worker.lake.errors import DamagedData, LakeError
from embed_worker.lake.layout import Partitioning
from embed_worker.lake.snapshots import RawManifest
from embed_worker.steps.rows import schema_of, whole_rows
from resources.lake import Lake

TYPES: dict[str, pa.DataType] = {
    "string": pa.string(), "int64": pa.int64(), "float64": pa.float64(), "bool": pa.bool_(),
    "timestamp": pa.timestamp("us", "UTC"),
}  # fmt: skip
FILES = 64
NEEDED = ("row_id", "id", "text_key")


class BadColumn(LakeError):
    """A column of `index.columns` is not there, or a value of it is not of the type that the spec says."""


def fields_of(raw: RawManifest, columns: Mapping[str, str]) -> list[pa.Field]:
    """Raises BadColumn where the snapshot has no such column."""
    there = set(schema_of(raw).names)
    for name in columns:
        if name not in there:
            known = ", ".join(sorted(raw.columns)) or "none beside the text"
            raise BadColumn(f"index.columns: {raw.dataset} has no column {name!r}; it has {known}")
    return [pa.field(name, TYPES[kind]) for name, kind in columns.items()]


class ColumnFiles:
    """Written once, a pass over the snapshot; then read stride by stride in ascending order."""

    def __init__(self, lake: Lake, raw: RawManifest, cut: Partitioning, fields: list[pa.Field], scratch: Path) -> None:
        self._cut, self._fields, self._folder = cut, fields, scratch
        self._files = min(FILES, cut.count)
        self._held: tuple[int, pa.Table] | None = None
        schema = pa.schema([("stride", pa.int32()), ("id", pa.string()), *fields])
        writers = [pa.ipc.new_stream(str(self._path(at)), schema) for at in range(self._files)]
        try:
            for batch in self._rows(lake, raw, scratch, schema):
                places = batch.column("stride").to_numpy() * self._files // cut.count
                for at in np.unique(places).tolist():
                    writers[at].write_batch(batch.filter(pa.array(places == at)))
        finally:
            for writer in writers:
                writer.close()

    def of(self, stride: int) -> "StrideColumns":
        at = stride * self._files // self._cut.count
        if self._held is None or self._held[0] != at:
            with pa.memory_map(str(self._path(at))) as source:
                self._held = at, pa.ipc.open_stream(source).read_all()
        table = self._held[1]
        return StrideColumns(table.filter(pc.equal(table.column("stride"), stride)), self._fields)

    def _path(self, at: int) -> Path:
        return self._folder / f"columns-{at:02d}.arrows"

    def _rows(self, lake: Lake, raw: RawManifest, scratch: Path, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        names = [*NEEDED, *(field.name for field in self._fields)]
        for part in raw.parts:
            for batch in whole_rows(lake.store, raw, part, scratch, names):
                row_ids = batch.column("row_id").to_numpy()
                strides = self._cut.stride_of(row_ids, batch.column("text_key"), raw.rows)
                ids = batch.column("id")
                values = [_cast(raw.dataset, batch.column(field.name), field, ids) for field in self._fields]
                yield pa.RecordBatch.from_arrays([pa.array(strides, pa.int32()), ids, *values], schema=schema)


class StrideColumns:
    """Of one stride's rows."""

    def __init__(self, table: pa.Table, fields: list[pa.Field]) -> None:
        self._table, self._fields = table, fields

    def of(self, ids: pa.Array) -> list[pa.Array]:
        """Raises DamagedData where a row is not of this snapshot."""
        places = pc.index_in(ids, value_set=self._table.column("id"))
        if places.null_count:
            lost = ids.filter(places.is_null())[0].as_py()
            raise DamagedData(f"the row {lost!r} of the set is not in its snapshot; materialize raw_reviews again")
        taken = [self._table.column(field.name).take(places) for field in self._fields]
        return [one.combine_chunks() if isinstance(one, pa.ChunkedArray) else one for one in taken]


def _cast(dataset: str, values: pa.Array, field: pa.Field, ids: pa.Array) -> pa.Array:
    try:
        return values.cast(field.type)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        for value, id_ in zip(values, ids, strict=True):
            try:
                value.cast(field.type)
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
                raise BadColumn(
                    f"index.columns: {field.name} of {dataset} is no {field.type} in the row {id_.as_py()!r}: "
                    f"{str(value.as_py())[:80]!r}. Correct the source, or the type"
                ) from None
        raise
