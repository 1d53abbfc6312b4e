"""The row filter: `where` keeps records whose columns have wanted values."""

from collections import Counter
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from embed_worker.lake.snapshots import Filtered
from embed_worker.steps.spec import Scalar
from embed_worker.steps.values import as_number, excerpt, text_of

FREQUENT = 20
"""Values that a part tells of a column."""
COUNTED = 10_000
"""Different values of a column that are counted, to say what it has where a filter value matches nothing."""


class RowFilter:
    """A record passes when each named column has one of its wanted values. Null never has.

    A number matches as a number in every format: `5` keeps 5, 5.0, "5" and "5.0". A text matches that text; "5" keeps
    the number 5 too. `true` keeps true and "True".
    """

    def __init__(self, where: Mapping[str, Scalar | list[Scalar]]) -> None:
        self._wanted = {name: _Wanted(v if isinstance(v, list) else [v]) for name, v in where.items()}
        self.unseen = set(self._wanted)
        """Columns that no record had so far."""

    def __call__(self, record: Mapping[str, Any]) -> bool:
        if self.unseen:
            self.unseen -= record.keys()
        passes = True
        for name, wanted in self._wanted.items():  # all of them: each value is counted by itself
            passes &= wanted.has(record.get(name))
        return passes

    @property
    def columns(self) -> list[str]:
        """The columns that decide."""
        return list(self._wanted)

    def has(self, name: str, value: Any, records: int) -> bool:
        """Whether a column's value lets pass the records that have it; counts them."""
        return self._wanted[name].has(value, records)

    def add(self, other: "RowFilter") -> None:
        """Takes in what another filter of the same spec saw further on in the source."""
        self.unseen &= other.unseen
        for name, wanted in self._wanted.items():
            wanted.add(other._wanted[name])

    @property
    def matched(self) -> dict[str, dict[str, int]]:
        """Records that each wanted value of each column matched."""
        return {name: dict(wanted.matched) for name, wanted in self._wanted.items()}

    @property
    def met(self) -> Filtered:
        """What can be added up over the parts of a source."""
        idle = {name: wanted for name, wanted in self._wanted.items() if 0 in wanted.matched.values()}
        frequent = {name: dict(wanted.seen.most_common(FREQUENT)) for name, wanted in idle.items()}
        return Filtered(matched=self.matched, unseen=sorted(self.unseen), frequent=frequent)


def added(parts: Iterable[Filtered]) -> Filtered:
    """What `where` met in all parts."""
    matched: dict[str, Counter[str]] = {}
    frequent: dict[str, Counter[str]] = {}
    unseen: set[str] | None = None
    for part in parts:
        unseen = set(part.unseen) if unseen is None else unseen & set(part.unseen)
        for into, more in ((matched, part.matched), (frequent, part.frequent)):
            for name, counts in more.items():
                into.setdefault(name, Counter()).update(counts)
    return Filtered(
        matched={name: dict(counts) for name, counts in matched.items()},
        unseen=sorted(unseen or ()),
        frequent={name: dict(counts.most_common(FREQUENT)) for name, counts in frequent.items()},
    )


def warnings(met: Filtered) -> list[str]:
    """One sentence for each value that matched no record."""
    found = []
    for name, matched in met.matched.items():
        top = Counter(met.frequent.get(name, {})).most_common(5)
        frequent = ", ".join(f"{excerpt(value, 40)!r} ({n:,})" for value, n in top)
        found += [
            f"where.{name}: no record has {value!r}; most frequent are {frequent or 'nulls only'}"
            for value, n in matched.items()
            if n == 0
        ]
    return found


class _Wanted:
    def __init__(self, values: list[Scalar]) -> None:
        self._texts = {v: v for v in values if isinstance(v, str)}
        self._booleans = {v: str(v).lower() for v in values if isinstance(v, bool)}
        self._numbers: dict[Decimal, str] = {}
        self._said: dict[Decimal, str] = {}
        """Texts that say a number: they match numbers, not other texts."""
        for value in values:
            number = as_number(value)
            if number is not None:
                (self._said if isinstance(value, str) else self._numbers)[number] = str(value)
        names = [str(v).lower() if isinstance(v, bool) else str(v) for v in values]
        self.matched: dict[str, int] = dict.fromkeys(names, 0)
        self.seen: Counter[str] = Counter()
        self._known: dict[str, str | None] = {}

    def add(self, other: "_Wanted") -> None:
        for hit, records in other.matched.items():
            self.matched[hit] += records
        for text, records in other.seen.items():
            self._see(text, records)

    def _see(self, text: str, records: int) -> None:
        if text in self.seen or len(self.seen) < COUNTED:
            self.seen[text] += records

    def has(self, value: Any, records: int = 1) -> bool:
        if value is None or value != value:
            return False
        if isinstance(value, str):
            if value in self._known:
                hit = self._known[value]
            else:
                hit = self._hit(value)
                if len(self._known) < COUNTED:
                    self._known[value] = hit
        else:
            hit = self._hit(value)
        if hit is not None:
            self.matched[hit] += records
        text = value if isinstance(value, str) else text_of(value)
        self._see(text[:100], records)
        return hit is not None

    def _hit(self, value: Any) -> str | None:
        if isinstance(value, bool):
            text = str(value).lower()
            return self._booleans.get(value) or self._texts.get(text) or self._texts.get(str(value))
        if isinstance(value, str):
            if value in self._texts:
                return self._texts[value]
            if self._booleans and value.lower() in ("true", "false"):
                return self._booleans.get(value.lower() == "true")
        elif (text := text_of(value)) in self._texts:
            return self._texts[text]
        if not self._numbers and not self._said:
            return None
        number = as_number(value)
        if number is None:
            return None
        if number in self._numbers:
            return self._numbers[number]
        return None if isinstance(value, str) else self._said.get(number)
