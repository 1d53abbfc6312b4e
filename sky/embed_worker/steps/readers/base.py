"""What all readers give: records and faults with their places, and an account of the whole file."""

from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

MAX_LINE = 64 << 20
"""A longer line is not a record but a damaged file; it is set aside without holding it in memory."""
BUFFER = 1 << 20


@dataclass(frozen=True, slots=True)
class Fault:
    """A record that cannot be read: why, and what can be shown of it."""

    reason: str
    detail: str = ""
    excerpt: str = ""


Record = dict[str, Any] | Fault


@dataclass(slots=True)
class Row:
    """A record and its place in the file."""

    record: Record
    line: int
    """Its first line; of Parquet, its row. Both from 1."""
    rest: pa.Table | None = None
    """Of Parquet: the columns that no template names, of the batch that the row is in."""
    at: int = 0
    """The row's place in `rest`."""


@dataclass
class Account:
    """What a file holds, counted beside the reader, and what the reader made of it."""

    unit: str = "lines"
    total: int = 0
    """Lines, bytes or rows of the file, counted without parsing; complete once the file is read to its end."""
    accounted: int = 0
    """Of these, those in records, header and what lies between records."""
    records: int = 0
    whole: bool = False
    """The file was read to its end."""
    notes: dict[str, int] = field(default_factory=dict)
    """Blank lines, records of several lines."""

    def note(self, what: str, count: int = 1) -> None:
        self.notes[what] = self.notes.get(what, 0) + count

    def add(self, more: "Account") -> None:
        """Takes in the account of what follows in the file."""
        self.unit = more.unit
        self.total += more.total
        self.accounted += more.accounted
        self.records += more.records
        self.whole &= more.whole
        for what, count in more.notes.items():
            self.note(what, count)
