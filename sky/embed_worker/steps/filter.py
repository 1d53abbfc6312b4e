"""The row filter: `where` keeps records whose columns have wanted values."""

from collections.abc import Mapping
from typing import Any

from embed_worker.steps.spec import Scalar


class RowFilter:
    """A record passes when each named column has one of its wanted values. Null never has.

    CSV has texts only, JSON and Parquet have types: `5` keeps 5, 5.0 and "5"; `true` keeps true and "True".
    """

    def __init__(self, where: Mapping[str, Scalar | list[Scalar]]) -> None:
        self._wanted = {name: _Wanted(v if isinstance(v, list) else [v]) for name, v in where.items()}
        self.unseen = set(self._wanted)
        """Columns that no record had so far."""

    def __call__(self, record: Mapping[str, Any]) -> bool:
        if self.unseen:
            self.unseen -= record.keys()
        return all(wanted.has(record.get(name)) for name, wanted in self._wanted.items())


class _Wanted:
    def __init__(self, values: list[Scalar]) -> None:
        self._texts = {str(value) for value in values if not isinstance(value, bool)}
        self._booleans = {value for value in values if isinstance(value, bool)}
        self._numbers = {value for value in values if isinstance(value, int | float) and not isinstance(value, bool)}

    def has(self, value: Any) -> bool:
        if value is None:
            return False
        if isinstance(value, bool):
            return value in self._booleans or str(value).lower() in self._texts
        if isinstance(value, int | float):
            return value in self._numbers or str(value) in self._texts
        text = str(value)
        if text in self._texts:
            return True
        return bool(self._booleans) and {"true": True, "false": False}.get(text.lower()) in self._booleans
