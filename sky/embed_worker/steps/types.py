"""Types of columns over batches, parts and files: promoted int → float → text, so that no value has to go."""

import datetime as dt
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from embed_worker.steps.readers.parquet import UNREADABLE, values_of
from embed_worker.steps.values import number_text, storable, text_of

EXACT = 2**53
"""Integers up to here are exact as floats."""
NS_RANGE = (dt.datetime(1678, 1, 1), dt.datetime(2262, 1, 1))
"""What a timestamp in nanoseconds holds."""


@dataclass(frozen=True)
class ColumnType:
    """An Arrow type, and whether values are there that the next wider type does not hold."""

    type: pa.DataType
    wide: bool = False
    """Integers that are not exact as floats, or times that nanoseconds do not reach."""


def type_of(column: pa.Array | pa.ChunkedArray) -> ColumnType:
    kind = column.type
    if pa.types.is_integer(kind) and kind.bit_width == 64:
        span = _span(column)
        return ColumnType(kind, span is not None and (span[0] < -EXACT or span[1] > EXACT))
    if pa.types.is_timestamp(kind) and kind.unit != "ns":
        span = _span(column)
        if span is None:
            return ColumnType(kind)
        scale = {"s": 1, "ms": 10**3, "us": 10**6}[kind.unit]
        first, last = (int((bound - dt.datetime(1970, 1, 1)).total_seconds()) * scale for bound in NS_RANGE)
        return ColumnType(kind, span[0] < first or span[1] > last)
    return ColumnType(kind)


def _span(column: pa.Array | pa.ChunkedArray) -> tuple[int, int] | None:
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.int64())
    found = pc.min_max(column)
    return None if found["min"].as_py() is None else (found["min"].as_py(), found["max"].as_py())


def common(a: ColumnType, b: ColumnType) -> ColumnType:
    """The narrowest type that holds all values of both as they stand; text where none else does."""
    wide = a.wide or b.wide
    return ColumnType(_common(a.type, b.type, wide), wide)


def _common(a: pa.DataType, b: pa.DataType, wide: bool) -> pa.DataType:
    if a == b or pa.types.is_null(b):
        return a
    if pa.types.is_null(a):
        return b
    is_int, is_float = pa.types.is_integer, pa.types.is_floating
    if is_int(a) and is_int(b):
        if pa.uint64() not in (a, b):
            return pa.int64()
        return pa.uint64() if pa.types.is_unsigned_integer(a) and pa.types.is_unsigned_integer(b) else pa.string()
    if is_float(a) and is_float(b):
        return pa.float64()
    if (is_int(a) or is_float(a)) and (is_int(b) or is_float(b)):
        return pa.string() if wide else pa.float64()
    if pa.types.is_decimal(a) and pa.types.is_decimal(b):
        scale = max(a.scale, b.scale)
        digits = max(a.precision - a.scale, b.precision - b.scale) + scale
        return (
            pa.decimal128(digits, scale)
            if digits <= 38
            else pa.decimal256(digits, scale)
            if digits <= 76
            else pa.string()
        )
    if pa.types.is_timestamp(a) and pa.types.is_timestamp(b) and (a.tz is None) == (b.tz is None):
        if "ns" in (a.unit, b.unit):
            return pa.string() if wide else pa.timestamp("ns", a.tz)
        return pa.timestamp("us", a.tz)
    if {a, b} == {pa.binary(), pa.string()}:
        return pa.binary()
    return pa.string()


def cast(column: pa.Array, kind: pa.DataType) -> pa.Array:
    """Values in the type that `common` gave."""
    if column.type == kind:
        return column
    if pa.types.is_null(column.type):
        return pa.nulls(len(column), kind)
    if not pa.types.is_string(kind):
        return column.cast(kind)
    return pa.array([_text(value) for value in values_of(column)], pa.string())


def _text(value: object) -> str | None:
    if value is None or value is UNREADABLE:
        return None
    text = number_text(value) if isinstance(value, float) else text_of(value)
    return text if storable(text) else None  # bytes may be no text


def merged(types: dict[str, ColumnType], more: dict[str, ColumnType]) -> None:
    """Takes columns into `types`, each in the type that holds all its values."""
    for name, kind in more.items():
        types[name] = common(types[name], kind) if name in types else kind


def conform(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """A table of a part with all columns of the schema, in its types."""
    columns = []
    for field in schema:
        if field.name in table.column_names:
            chunks = [cast(chunk, field.type) for chunk in table.column(field.name).chunks]
            columns.append(pa.chunked_array(chunks, field.type))
        else:
            columns.append(pa.chunked_array([pa.nulls(table.num_rows, field.type)], field.type))
    return pa.Table.from_arrays(columns, schema=schema)
