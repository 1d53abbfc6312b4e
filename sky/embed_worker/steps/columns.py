"""The extra columns of raw_reviews: their types are fixed by the first records, then held to."""

from collections.abc import Iterable
from typing import Any

import orjson
import pyarrow as pa

from embed_worker.steps.records import Record

OWN = ("row_id", "id", "text")
OTHER = "_other"
"""JSON text with the keys of a record that its first records did not have."""
INT64 = range(-(2**63), 2**63)


class ExtraColumns:
    """Columns of the source that are kept beside row_id, id and text."""

    def __init__(self, types: dict[str, pa.DataType | None], other: bool) -> None:
        """`types`: source column → Arrow type, None for JSON text."""
        self._types = types
        self._other = other
        self.nulled: dict[str, int] = {}
        self.names = _names(list(types))

    @classmethod
    def from_schema(cls, schema: pa.Schema, used_as_is: set[str]) -> "ExtraColumns":
        return cls({field.name: field.type for field in schema if field.name not in used_as_is}, other=False)

    @classmethod
    def from_records(cls, records: Iterable[Record], used_as_is: set[str], texts_only: bool) -> "ExtraColumns":
        """CSV has texts only. JSON columns get a type all sampled values share, else are kept as JSON text."""
        kinds: dict[str, set[type]] = {}
        for record in records:
            if isinstance(record, dict):
                for name, value in record.items():
                    found = kinds.setdefault(name, set())
                    if value is not None:
                        found.add(type(value) if not _is_big(value) else dict)
        types = {
            name: pa.string() if texts_only else _type_for(found)
            for name, found in kinds.items()
            if name not in used_as_is
        }
        return cls(types, other=not texts_only)

    @property
    def fields(self) -> list[pa.Field]:
        fields = [pa.field(self.names[name], kind or pa.string()) for name, kind in self._types.items()]
        return [*fields, pa.field(OTHER, pa.string())] if self._other else fields

    def values(self, record: dict[str, Any], known: set[str]) -> list[Any]:
        """One value a field. `known` are the columns that are stored elsewhere."""
        row = [self._fit(name, record.get(name), kind) for name, kind in self._types.items()]
        if self._other:
            rest = {name: value for name, value in record.items() if name not in self._types and name not in known}
            row.append(self._json(OTHER, rest) if rest else None)
        return row

    def _json(self, name: str, value: Any) -> str | None:
        try:
            return orjson.dumps(value, default=str).decode()
        except TypeError:  # nested deeper than can be written
            self._null(name)
            return None

    def column(self, position: int, values: list[Any], field: pa.Field) -> pa.Array:
        """Values of the extra column at a position; what does not fit its type becomes null and is counted."""
        try:
            return pa.array(values, field.type)
        except (pa.ArrowException, OverflowError, TypeError, ValueError):
            name = [*self._types, OTHER][position]
            return pa.array([self._convert(name, value, field.type) for value in values], field.type)

    def _convert(self, name: str, value: Any, kind: pa.DataType) -> Any:
        try:
            pa.array([value], kind)
        except (pa.ArrowException, OverflowError, TypeError, ValueError):
            self._null(name)
            return None
        return value

    def _null(self, name: str) -> None:
        self.nulled[name] = self.nulled.get(name, 0) + 1

    def _fit(self, name: str, value: Any, kind: pa.DataType | None) -> Any:
        if value is None:
            return None
        if kind is None:
            return self._json(name, value)
        if pa.types.is_string(kind):
            fits = isinstance(value, str)
        elif pa.types.is_boolean(kind):
            fits = isinstance(value, bool)
        elif kind == pa.int64():
            fits = isinstance(value, int) and not isinstance(value, bool) and value in INT64
        elif kind == pa.float64():
            fits = isinstance(value, int | float) and not isinstance(value, bool)
        else:
            return value  # Parquet: the file's own type
        if fits:
            return value
        self._null(name)
        return None


def _names(columns: list[str]) -> dict[str, str]:
    """Source column → its name in raw_reviews: never empty, never that of another column."""
    taken = {*OWN, OTHER, *(name for name in columns if name and name not in OWN and name != OTHER)}
    names = {}
    for position, column in enumerate(columns):
        name = column
        if not column or column in OWN or column == OTHER:
            name = f"source_{column or position}"
            while name in taken:
                name += "_"
            taken.add(name)
        names[column] = name
    return names


def _is_big(value: Any) -> bool:
    return type(value) is int and value not in INT64


def _type_for(kinds: set[type]) -> pa.DataType | None:
    if kinds == {bool}:
        return pa.bool_()
    if kinds == {int}:
        return pa.int64()
    if kinds and kinds <= {int, float}:
        return pa.float64()
    return pa.string() if kinds == {str} else None
