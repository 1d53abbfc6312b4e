"""Rows of Parquet → a block: templates and the filter over whole columns, the other columns as Arrow has them."""

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from embed_worker.steps.columns import ExtraColumns
from embed_worker.steps.fast.block import Block, Plan, Reject, own_table
from embed_worker.steps.fast.flat import Bools
from embed_worker.steps.fast.rendered import REASONS, reasons, rendered
from embed_worker.steps.filter import RowFilter
from embed_worker.steps.judge import shown
from embed_worker.steps.readers.base import Account
from embed_worker.steps.readers.header import unique
from embed_worker.steps.readers.parquet import UNREADABLE, values_of, without_views
from embed_worker.steps.spec import RowRange, SourceSpec
from embed_worker.steps.values import storable, text_of

if TYPE_CHECKING:
    import polars as pl


def read(table: pa.Table, spec: SourceSpec) -> Block | None:
    """The rows of some row groups, read as `readers.parquet.opened` opens a file. None for what only the record reader
    can tell: a column that is missing, a value that Python has no form for, bytes that are no UTF-8 in a template."""
    import polars as pl

    plan = Plan(spec)
    table = without_views(named(table)).combine_chunks()
    if spec.rows != RowRange() or not set(plan.needed) <= set(table.column_names):
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
    if any(one is None for one in texts_of.values()):
        return None
    sound = {name: one for name, one in texts_of.items() if one is not None}
    at = np.flatnonzero(passes)
    if len(at) < table.num_rows:
        sound = {name: one.gather(at) for name, one in sound.items()}
    said = rendered(plan.text, sound, len(at))
    ids = None if plan.id is None else rendered(plan.id, sound, len(at))
    codes = reasons(ids, said, spec.max_text_bytes)
    why = np.array(REASONS, object)[codes]
    if ids is not None:
        taken = pl.DataFrame({"id": ids, "row": codes == 0})
        first = taken.select(pl.struct("id", "row").is_first_distinct()).to_series().to_numpy()
        why[(codes == 0) & ~first] = "duplicate id"
    rejects = []
    for place in np.flatnonzero(why != "").tolist():
        record = _record(plan, table, int(at[place]))
        if record is None:
            return None
        id_ = None if ids is None or why[place] == "no id" else ids[place]
        detail, excerpt = shown(record, why[place], spec.encoding)
        rejects.append(Reject(int(at[place]), int(at[place]) + 1, id_, why[place], detail, excerpt, True))
    kept = why == ""
    if not kept.all():
        at, said = at[kept], said.filter(pl.Series(kept))
        ids = None if ids is None else ids.filter(pl.Series(kept))
    extra = ExtraColumns(spec, plan.as_is)
    own, text_bytes = own_table(ids, said, at)
    others = extra.of_table(table if len(at) == table.num_rows else table.take(pa.array(at)))
    rows = table.num_rows
    return Block(
        own=own,
        columns=pa.table(others),
        rejects=rejects,
        records=rows,
        filtered=rows - int(passes.sum()),
        by_record=0,
        where=where,
        account=Account("rows", rows, rows, rows, True),
        text_bytes=text_bytes,
        values=extra.values,
        nulled=extra.nulled,
        named=table.column_names if len(at) else [],
        shows=[],
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
        coded = column.dictionary_encode()
        codes = coded.indices.fill_null(-1).to_numpy()
        counts = np.bincount(codes[codes >= 0], minlength=len(coded.dictionary))
        pairs = zip(coded.dictionary.to_pylist(), counts.tolist(), strict=True)
        hits = np.array([*(where.has(name, value, count) for value, count in pairs), False])
        found: Bools = hits[codes]
        return found
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
