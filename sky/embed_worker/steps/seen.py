"""Which columns the records of JSON have: its files name none, so a typo in a template shows at the end only."""

from collections.abc import Iterable, Sequence
from typing import Any

from embed_worker.lake.snapshots import SeenInJson
from embed_worker.steps.errors import SourceError
from embed_worker.steps.readers.header import lacks

SHOWN = 200


class SeenColumns:
    """The columns that templates need, until each has been seen."""

    def __init__(self, of_text: Sequence[str], of_id: Sequence[str]) -> None:
        self._of_text, self._needed = of_text, [*of_text, *of_id]
        self._missing = set(self._needed)
        self._known: dict[str, str] = {}
        """Columns, and what there is to say of the first value of each."""
        self._by_columns = ""
        """A column of the text that holds many values in the first record."""

    def look(self, record: dict[str, Any]) -> None:
        if not self._missing:
            return
        self._missing -= record.keys()
        if record and not self._known:
            values = ((name, record.get(name)) for name in self._of_text)
            many = (name for name, value in values if isinstance(value, dict | list) and len(value) > 1)
            self._by_columns = next(many, "")
        if len(self._known) < SHOWN:
            for name, value in record.items():
                nested = isinstance(value, list) and value and isinstance(value[0], dict)
                self._known.setdefault(name, f" (a list of {len(value)} records)" if nested else "")

    @property
    def state(self) -> SeenInJson:
        """What can be put together over the parts of a source."""
        missing = [name for name in self._needed if name in self._missing]
        return SeenInJson(missing=missing, known=self._known if missing else {}, by_columns=self._by_columns)


def judge(where: str, parts: Iterable[SeenInJson], records: int) -> None:
    """Raises SourceError where a needed column is in no record, or one record holds all values of a column."""
    missing: list[str] | None = None
    known: dict[str, str] = {}
    by_columns = ""
    for part in parts:
        missing = part.missing if missing is None else [name for name in missing if name in part.missing]
        known |= part.known if len(known) < SHOWN else {}
        by_columns = by_columns or part.by_columns
    if known and missing:
        lists = next((name for name, what in known.items() if what), None)
        cure = f". The records are in {lists!r}: write them as JSON Lines, with jq -c '.{lists}[]'" if lists else ""
        raise SourceError(f"{where} {lacks(missing[0], [name + what for name, what in known.items()])}{cure}")
    if records == 1 and by_columns:
        raise SourceError(
            f"{where} is one record whose {by_columns!r} holds many values; write a record a row: pandas' "
            "to_json(orient='records', lines=True)"
        )
