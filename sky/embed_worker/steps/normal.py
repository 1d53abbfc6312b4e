"""A column of Parquet as every reader can take it: plain types, times in UTC, null for what no reader has."""

import pyarrow as pa
import pyarrow.compute as pc

from embed_worker.steps.types import cast
from embed_worker.steps.values import storable

YEARS = (-62_135_596_800, 253_402_300_799)
"""Seconds of the years 1 to 9999, which is what Python, Polars and SQL have."""
UNITS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


def normalised(column: pa.Array) -> pa.Array:
    """Dictionaries and extensions by their values, times with a zone in UTC; times out of range and texts that are no
    UTF-8 become null."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    if isinstance(column, pa.ExtensionArray):
        column = column.storage
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    kind = column.type
    if pa.types.is_large_string(kind) or kind == pa.string_view():
        column = column.cast(pa.string())
    elif pa.types.is_large_binary(kind) or kind == pa.binary_view():
        column = column.cast(pa.binary())
    elif pa.types.is_timestamp(kind):
        return _timestamps(column)
    elif pa.types.is_date(kind):
        days = column.cast(pa.int32() if kind == pa.date32() else pa.int64())
        scale = 86_400 if kind == pa.date32() else 0.001
        return _within(column, days, int(YEARS[0] / scale), int(YEARS[1] / scale))
    try:
        column.validate(full=True)
    except pa.ArrowInvalid:
        column = _valid(column)
    if pa.types.is_nested(column.type) and (plain := plain_type(column.type)) != column.type:
        try:
            return column.cast(plain)
        except pa.ArrowException:
            return cast(column, pa.string())
    return column


def plain_type(kind: pa.DataType) -> pa.DataType:
    """The same with dictionaries by their values and times in UTC, at any depth."""
    if isinstance(kind, pa.BaseExtensionType):
        return plain_type(kind.storage_type)
    if pa.types.is_dictionary(kind):
        return plain_type(kind.value_type)
    if pa.types.is_timestamp(kind) and kind.tz:
        return pa.timestamp(kind.unit, "UTC")
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(plain_type(field.type)) for field in kind])
    if pa.types.is_map(kind):
        return pa.map_(plain_type(kind.key_type), plain_type(kind.item_type))
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(kind.value_field.with_type(plain_type(kind.value_type)), kind.list_size)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        make = pa.large_list if pa.types.is_large_list(kind) else pa.list_
        return make(kind.value_field.with_type(plain_type(kind.value_type)))
    return kind


def _timestamps(column: pa.Array) -> pa.Array:
    kind = column.type
    ticks = column.cast(pa.int64())
    low, high = YEARS[0] * UNITS[kind.unit], (YEARS[1] + 1) * UNITS[kind.unit] - 1
    utc = ticks.cast(pa.timestamp(kind.unit, "UTC" if kind.tz else None))
    return utc if kind.unit == "ns" else _within(utc, ticks, low, high)


def _within(column: pa.Array, ticks: pa.Array, low: int, high: int) -> pa.Array:
    sound = pc.and_(pc.greater_equal(ticks, low), pc.less_equal(ticks, high))
    return pc.if_else(sound, column, pa.scalar(None, column.type))


def _valid(column: pa.Array) -> pa.Array:
    """The values that are sound; the others null."""
    if pa.types.is_string(column.type):
        raw = column.cast(pa.binary()).to_pylist()
        texts = [None if value is None else value.decode("utf-8", "surrogateescape") for value in raw]
        return pa.array([text if text is not None and storable(text) else None for text in texts], pa.string())
    sound = []
    for at in range(len(column)):
        try:
            column[at : at + 1].take(pa.array([0])).validate(full=True)
            sound.append(True)
        except pa.ArrowInvalid:
            sound.append(False)
    kept = [at if fine else None for at, fine in enumerate(sound)]
    return column.take(pa.array(kept, pa.int64()))
