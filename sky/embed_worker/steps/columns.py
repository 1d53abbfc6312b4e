"""The other columns of raw_reviews: kept as they stand; what no type holds is nulled and counted."""

import math
from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Any

import pyarrow as pa

from embed_worker.steps.dialect import ColumnType as Wanted
from embed_worker.steps.dialect import Dialect
from embed_worker.steps.normal import normalised
from embed_worker.steps.readers.parquet import UNREADABLE, values_of
from embed_worker.steps.types import cast
from embed_worker.steps.values import NUMBER, Written, json_text, number_text, storable, text_of

OWN = ("row_id", "id", "text", "text_key")
RECORD, LINE = "_record", "_line"
"""A row's record by its place in the part, and the first line of it in the range."""
OTHER = "_other"
"""JSON text with the keys of a record beyond the first MAX_NAMED of the part."""
MAX_NAMED = 1000
INT64 = range(-(2**63), 2**63)


class ExtraColumns:
    """Columns of the source that are kept beside row_id, id and text."""

    def __init__(self, dialect: Dialect, stored_as_is: set[str]) -> None:
        """`stored_as_is`: columns that are `id` or `text` themselves."""
        self._dialect, self._as_is = dialect, stored_as_is
        self._names: dict[str, str | None] = {}
        """Source column → its name in raw_reviews; None for one that is not kept."""
        self.nulled: dict[str, int] = {}
        """Values that were stored as null, by column."""
        self.values: dict[str, int] = {}
        """Values that the kept records had in the source, by column."""

    def never_seen(self) -> list[str]:
        """Columns that the spec names and no file has."""
        return [name for name in self._dialect.column_names if name not in self._names]

    def of_records(self, records: list[dict[str, Any]]) -> dict[str, pa.Array]:
        """The columns of records that are Python's."""
        seen: dict[str, None] = {}
        keys: Any = None
        for record in records:
            if record.keys() != keys:
                keys = record.keys()
                seen |= dict.fromkeys(keys)
        columns: dict[str, pa.Array] = {}
        beyond = [name for name in seen if self.name_of(name) == OTHER]
        for name in seen:
            lake_name = self.name_of(name)
            if lake_name is None or lake_name == OTHER:
                continue
            values = [record.get(name) for record in records]
            self.count(lake_name, len(values) - values.count(None))
            columns[lake_name] = self.column(lake_name, values, self._dialect.kept(name) or "any")
        if beyond:
            rests = [{name: record[name] for name in beyond if name in record} for record in records]
            self.count(OTHER, sum(bool(rest) for rest in rests))
            columns[OTHER] = self.column(OTHER, [rest or None for rest in rests], "string")
        return columns

    def of_table(self, table: pa.Table) -> dict[str, pa.Array]:
        """The columns of rows that are Arrow's."""
        columns = {}
        for name in table.column_names:
            lake_name = self.name_of(name)
            if lake_name is None:
                continue
            column = table.column(name).combine_chunks()
            self.count(lake_name, len(column) - column.null_count)
            kept = normalised(column)
            wanted = self._dialect.kept(name) or "any"
            if wanted != "any":
                kept = _typed(kept, wanted)
            self._null(lake_name, kept.null_count - column.null_count)
            columns[lake_name] = kept
        return columns

    def name_of(self, column: str) -> str | None:
        """Its name in raw_reviews; None for a column that is not kept."""
        if column not in self._names:
            name: str | None = lake_name(column)
            if column in self._as_is or self._dialect.kept(column) is None:
                name = None
            elif len(self._names) >= MAX_NAMED:
                if len(self._names) >= 100 * MAX_NAMED:
                    return OTHER
                name = OTHER
            self._names[column] = name
        return self._names[column]

    def has_room(self, columns: Iterable[str]) -> bool:
        """None of these is beyond the columns that have names."""
        return len(self._names.keys() | set(columns)) <= MAX_NAMED

    def add(self, columns: Iterable[str], values: dict[str, int], nulled: dict[str, int]) -> None:
        """Takes in the source's columns and the figures of rows that another has typed."""
        for column in columns:
            self.name_of(column)
        for name, count in values.items():
            self.count(name, count)
        for name, count in nulled.items():
            self._null(name, count)

    def count(self, name: str, values: int) -> None:
        """Values of a kept column that are not null in the source."""
        self.values[name] = self.values.get(name, 0) + values

    def _null(self, name: str, values: int = 1) -> None:
        if values:
            self.nulled[name] = self.nulled.get(name, 0) + values

    def column(self, name: str, values: list[Any], wanted: Wanted) -> pa.Array:
        """Python's values of a kept column in the narrowest type that holds them, or the wanted one."""
        before = values.count(None)
        column = self._of_type(values, wanted) if wanted != "any" else self._any(values)
        self._null(name, column.null_count - before)
        return column

    def _any(self, values: list[Any]) -> pa.Array:
        kinds = set(map(type, values)) - {type(None)}
        if not kinds:
            return pa.nulls(len(values))
        if kinds == {str}:
            return _texts(values)
        if kinds == {bool}:
            return pa.array(values, pa.bool_())
        if kinds == {int} and all(value is None or value in INT64 for value in values):
            return pa.array(values, pa.int64())
        numbers = self._dialect.json_numbers
        if numbers != "text" and kinds <= {int, float, Written}:
            exact = [v is None or (v.is_exact if isinstance(v, Written) else -(2**53) <= v <= 2**53 or type(v) is float)
                     for v in values]  # fmt: skip
            if numbers == "float" or all(exact):
                return pa.array([None if v is None else _float(v) for v in values], pa.float64())
        return _texts([_text(value, numbers == "text") for value in values])

    def _of_type(self, values: list[Any], wanted: Wanted) -> pa.Array:
        if wanted == "string":
            return _texts([_text(value, True) for value in values])
        return pa.array([CONVERT[wanted](value) for value in values], ARROW[wanted])


def lake_name(column: str) -> str:
    """The name of a source's column in raw_reviews: never one of ours, never that of another column."""
    bare = column
    while bare.startswith("source_"):
        bare = bare.removeprefix("source_")
    return f"source_{column}" if bare in (*OWN, OTHER, RECORD, LINE, "") else column


def _texts(values: list[Any]) -> pa.Array:
    try:
        return pa.array(values, pa.string())
    except (pa.ArrowException, UnicodeEncodeError):
        return pa.array([v if v is None or storable(v) else None for v in values], pa.string())


def _text(value: Any, as_written: bool = False) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, float):
        if math.isnan(value):
            return None
        return str(value) if as_written else number_text(value)
    return json_text(value) if isinstance(value, dict | list) else text_of(value)


def _float(value: Any) -> float | None:
    """None for what is no number, and for an integer that no float comes near."""
    try:
        found = float(value)
    except OverflowError:
        return None
    return None if math.isnan(found) else found


def _as_int(value: Any) -> int | None:
    if isinstance(value, str):
        value = value.strip()
        value = (
            int(value)
            if NUMBER.fullmatch(value) and value.lstrip("-").isdigit() and len(value) < 25
            else _as_float(value)
        )
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal) or not math.isfinite(value):
        return None
    return int(value) if value == int(value) and int(value) in INT64 else None


def _as_float(value: Any) -> float | None:
    if isinstance(value, str):
        value = value.strip()
        return float(value) if NUMBER.fullmatch(value) else None
    return _float(value) if isinstance(value, int | float | Decimal) and not isinstance(value, bool) else None


def _as_bool(value: Any) -> bool | None:
    if isinstance(value, str):
        return {"true": True, "false": False, "1": True, "0": False}.get(value.strip().lower())
    return bool(value) if isinstance(value, bool) or value in (0, 1) else None


CONVERT: dict[str, Callable[[Any], Any]] = {"int": _as_int, "float": _as_float, "bool": _as_bool}
ARROW = {"int": pa.int64(), "float": pa.float64(), "bool": pa.bool_()}


def _typed(column: pa.Array, wanted: Wanted) -> pa.Array:
    """Values in the type that the spec names, each by itself: what one becomes is not for its neighbours to say."""
    kind = column.type
    if wanted == "string":
        return cast(column, pa.string())
    if kind == ARROW[wanted] or pa.types.is_null(kind):
        return column.cast(ARROW[wanted])
    if wanted == "int" and pa.types.is_integer(kind) and kind != pa.uint64():
        return column.cast(pa.int64())
    if wanted == "float" and (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        return column.cast(pa.float64(), safe=False)  # an integer's nearest
    values = (None if value is UNREADABLE else value for value in values_of(column))
    return pa.array([CONVERT[wanted](value) for value in values], ARROW[wanted])
