"""Rows of Parquet → a block: templates and the filter over whole columns, the other columns as Arrow has them."""

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from embed_worker.steps.fast.block import Block, Plan
from embed_worker.steps.fast.flat import Bools
from embed_worker.steps.fast.table import Records, block_of, passes_coded
from embed_worker.steps.filter import RowFilter
from embed_worker.steps.readers.base import Account
from embed_worker.steps.readers.header import unique
from embed_worker.steps.readers.parquet import UNREADABLE, values_of, without_views
from embed_worker.steps.spec import SourceSpec
from embed_worker.steps.values import storable, text_of

if TYPE_CHECKING:
    import polars as pl


def read(table: pa.Table, spec: SourceSpec) -> Block | None:
    """The rows of some row groups, read as `readers.parquet.opened` opens a file. None for what only the record reader
    can tell: a column that is missing, a value that Python has no form for, bytes that are no UTF-8 in a template."""
    plan = Plan(spec)
    table = without_views(named(table)).combine_chunks()
    if not set(plan.needed) <= set(table.column_names):
        return None
    columns = {name: _only_chunk(table.column(name)) for name in plan.needed}
    texts_of = {
        name: texts(column) for name, column in columns.items() if name not in spec.where or _in_text(plan, name)
    }
    where = RowFilter(spec.where)
    where.unseen.clear()
    passes = np.ones(table.num_rows, bool)
    for name in where.columns:
        hits = _passes(where, name, columns[name])
        if hits is None:
            return None
        passes &= hits
    sound = {name: one for name, one in texts_of.items() if one is not None}
    if len(sound) < len(texts_of):
        return None
    rows = table.num_rows
    return block_of(
        plan,
        Records(
            texts=sound,
            where=where,
            passes=passes,
            positions=np.arange(rows),
            lines=np.arange(1, rows + 1),
            record=lambda at: _record(plan, table, at),
            columns=lambda extra, at: extra.of_table(table if len(at) == rows else table.take(pa.array(at))),
            names=table.column_names,
            account=Account("rows", rows, rows, rows, True),
        ),
    )


def named(table: pa.Table) -> pa.Table:
    """Each column under a name of its own."""
    names = table.column_names
    return table if len(set(names)) == len(names) else table.rename_columns(unique(names))


def texts(column: pa.Array) -> "pl.Series | None":
    """A column's values as a template takes them; None where one is no text that can be stored, or cannot be read."""
    import polars as pl

    kind = column.type
    if pa.types.is_dictionary(kind) and _is_text(kind.value_type):
        column, kind = column.dictionary_decode(), kind.value_type
    if _is_text(kind) or pa.types.is_null(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        try:
            column.validate(full=True)
        except pa.ArrowInvalid:
            return None
        return pl.Series(column.cast(pa.string()), dtype=pl.String)
    found = []
    for value in values_of(column):
        if value is UNREADABLE:
            return None
        null = value is None or (isinstance(value, float) and math.isnan(value))
        text = None if null else value if isinstance(value, str) else text_of(value)
        if text is not None and not storable(text):
            return None
        found.append(text)
    return pl.Series(found, dtype=pl.String)


def _passes(where: RowFilter, name: str, column: pa.Array) -> Bools | None:
    """The rows whose value passes; each different text or integer is asked once."""
    kind = column.type
    if _is_text(kind) or pa.types.is_integer(kind):
        try:
            column.validate(full=True)
        except pa.ArrowInvalid:
            return None
        return passes_coded(where, name, column)
    values = values_of(column)
    if any(value is UNREADABLE for value in values):
        return None
    return np.array([where.has(name, value, 1) for value in values], bool)


def _record(plan: Plan, table: pa.Table, at: int) -> dict[str, Any] | None:
    row = table.slice(at, 1)
    found = {n: values_of(_only_chunk(row.column(n)))[0] for n in table.column_names if n in plan.needed}
    return None if any(value is UNREADABLE for value in found.values()) else found


def _only_chunk(column: pa.ChunkedArray) -> pa.Array:
    if column.num_chunks == 1:
        return column.chunk(0)
    found = column.combine_chunks()
    return pa.concat_arrays(found.chunks) if isinstance(found, pa.ChunkedArray) else found


def _in_text(plan: Plan, name: str) -> bool:
    return name in plan.text.columns or (plan.id is not None and name in plan.id.columns)


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))
