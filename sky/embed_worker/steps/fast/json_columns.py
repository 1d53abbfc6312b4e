"""The other columns of a block of JSON Lines, as `ExtraColumns` names, types and counts them."""

from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from embed_worker.steps.columns import MAX_NAMED, ExtraColumns
from embed_worker.steps.fast import slices
from embed_worker.steps.fast.block import Plan, as_strings
from embed_worker.steps.fast.flat import BOOL, DEEP, EMPTY, NULL, NUMBER, TEXT, Bools, Ints, Values
from embed_worker.steps.fast.json_parser import Parsed
from embed_worker.steps.types import ColumnType, conform, merged, type_of


def columns_of(
    plan: Plan, found: Parsed, kept: Bools, odd: dict[int, dict[str, Any]]
) -> tuple[pa.Table, ExtraColumns, list[str]] | None:
    """The columns of the kept lines, in their order; None for more names than columns can have."""
    extra = ExtraColumns(plan.spec, plan.as_is)
    flat_lines = np.flatnonzero(kept & found.lines.flat)
    whole = len(flat_lines) == len(found.flat_lines)
    values = found.values
    if not whole:
        values = {name: one.of(kept[one.lines]) for name, one in values.items()}
        values = {name: one for name, one in values.items() if len(one.lines)}
    first = {name: (int(one.lines[0]), int(one.order[0])) for name, one in values.items()}
    for line, record in odd.items():
        for at, name in enumerate(record):
            first[name] = min(first.get(name, (line, at)), (line, at))
    if len(first) > MAX_NAMED // 2:
        return None
    names = sorted(first, key=lambda name: first[name])
    order = [lake for name in names if (lake := extra.name_of(name)) is not None]
    row_of = np.zeros(len(kept), np.int64)
    row_of[flat_lines] = np.arange(len(flat_lines))
    column = _Columns(extra, plan, found, flat_lines, row_of)
    tables = []
    if len(flat_lines):
        made = {lake: column.of(name, values[name], lake) for name in values if (lake := extra.name_of(name))}
        tables.append(_table(made, len(flat_lines)))
    if odd:
        tables.append(_table(extra.of_records([odd[line] for line in sorted(odd)]), len(odd)))
    if not order:
        return pa.table({}), extra, names
    types: dict[str, ColumnType] = {}
    for table in tables:
        merged(types, {name: type_of(table.column(name)) for name in table.column_names if name})
    schema = pa.schema([(name, types[name].type) for name in order])
    joined = pa.concat_tables([conform(table, schema) for table in tables]) if tables else schema.empty_table()
    if len(tables) > 1 and len(flat_lines) and min(odd) < flat_lines[-1]:  # a block's last line is always odd
        joined = joined.take(np.argsort(np.concatenate([flat_lines, sorted(odd)])))
    return joined, extra, names


def _table(columns: dict[str, pa.Array], rows: int) -> pa.Table:
    """With a column that no column of the lake is called as: a table without columns forgets its rows."""
    return pa.table({**columns, "": pa.nulls(rows)})


class _Columns:
    """Columns of flat lines."""

    def __init__(self, extra: ExtraColumns, plan: Plan, found: Parsed, lines: Ints, row_of: Ints) -> None:
        self._extra, self._plan, self._found, self._lines, self._row_of = extra, plan, found, lines, row_of

    def of(self, name: str, values: Values, lake_name: str) -> pa.Array:
        kinds = {int(kind) for kind in np.unique(values.kinds)} - {NULL}
        self._extra.count(lake_name, int((values.kinds != NULL).sum()))
        wanted = self._plan.spec.kept(name) or "any"
        if not kinds and wanted == "any":
            return pa.nulls(len(self._lines))
        if kinds == {TEXT} and wanted in ("any", "string"):
            return as_strings(self._texts(name))
        if kinds == {BOOL} and wanted in ("any", "bool"):
            values = values.of(values.kinds == BOOL)
            return self._spread(values, pa.array(self._found.lines.array[values.starts] == ord("t")))
        if kinds == {NUMBER} and wanted in ("any", "int", "float"):
            found = self._numbers(values.of(values.kinds == NUMBER), wanted)
            if found is not None:
                return found
        if kinds <= {EMPTY, DEEP} and wanted == "any":
            values = values.of(values.kinds != NULL)
            return self._spread(values, slices.said(self._found.lines.array, values))
        return self._extra.column(lake_name, self._python(name, values), wanted)

    def _texts(self, name: str) -> Any:
        column = self._found.frame[name]
        return column if len(column) == len(self._lines) else column.gather(self._found.place_of[self._lines])

    def _numbers(self, values: Values, wanted: str) -> pa.Array | None:
        """Integers, or floats; None where integers among them are too long for floats."""
        texts = slices.written(self._found.lines.array, values)
        has_dot = pc.match_substring(texts, ".")
        if wanted != "float" and not pc.any(has_dot).as_py():
            return self._spread(values, texts.cast(pa.int64()))
        long = pc.and_not(pc.greater(pc.binary_length(texts), slices.SAFE_FLOAT - 1), has_dot)
        if wanted == "int" or pc.any(long).as_py():
            return None
        return self._spread(values, texts.cast(pa.float64()))

    def _spread(self, values: Values, array: pa.Array) -> pa.Array:
        """A value a line; null in lines without."""
        if len(values.lines) == len(self._lines):
            return array
        places = np.full(len(self._lines), -1)
        places[self._row_of[values.lines]] = np.arange(len(values.lines))
        return array.take(pa.array(places, mask=places < 0))

    def _python(self, name: str, values: Values) -> list[Any]:
        """Python's values."""
        found: list[Any] = [None] * len(self._lines)
        texts = self._texts(name).to_list() if name in self._found.frame.columns else []
        others = values.of((values.kinds != TEXT) & (values.kinds != NULL))
        for line in values.lines[values.kinds == TEXT].tolist():
            found[self._row_of[line]] = texts[self._row_of[line]]
        said = slices.said(self._found.lines.array, others).to_pylist()
        for line, kind, text in zip(others.lines.tolist(), others.kinds.tolist(), said, strict=True):
            found[self._row_of[line]] = _value(kind, text)
        return found


def _value(kind: int, text: str) -> Any:
    if kind == NUMBER:
        return float(text) if "." in text else int(text)
    return text == "true" if kind == BOOL else orjson.loads(text)
