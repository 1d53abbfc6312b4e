"""The names of the columns, and what to say where a needed one is not among them."""

import re
from collections import Counter
from collections.abc import Collection
from typing import Any

from embed_worker.steps.dialect import Dialect
from embed_worker.steps.errors import SourceError
from embed_worker.steps.readers.fields import Marks
from embed_worker.steps.values import excerpt, storable

DELIMITERS = {",": '","', ";": '";"', "\t": '"\\t"', "|": '"|"', ":": '":"', "^": '"^"'}
SHOWN = 40


class Header:
    """Names by position; fields become a record."""

    def __init__(self, names: list[str], dialect: Dialect) -> None:
        self.names = names

    def record(self, fields: list[str], nulls: Collection[str]) -> dict[str, Any]:
        if nulls:
            return {n: None if f in nulls else f for n, f in zip(self.names, fields, strict=True)}
        return dict(zip(self.names, fields, strict=True))


def sep_line(line: str) -> str | None:
    """The delimiter of Excel's first line `sep=;`."""
    found = re.fullmatch(r'"?sep=(.)"?[\r\n]*', line)
    return found[1] if found else None


def header_of(
    url: str, fields: list[str], dialect: Dialect, needed: Collection[str], marks: Marks, line: str
) -> Header:
    if not all(storable(name) for name in fields):
        raise SourceError(f"{url}: its header is not UTF-8 ({excerpt(line)!r}); set `encoding:`, such as cp1252")
    names = unique(fields)
    if missing := [name for name in needed if name not in names]:
        raise SourceError(f"{url} {lacks(missing[0], names)}{_cure(missing[0], needed, fields, marks, line)}")
    return Header(names, dialect)


def unique(fields: list[str]) -> list[str]:
    """Each column under a name of its own: one without is `column_3`, twins are `a_1` and `a_2`."""
    counts = Counter(fields)
    taken = set(fields)
    seen: Counter[str] = Counter()
    names = []
    for position, field in enumerate(fields, start=1):
        name = field
        if not field.strip() or counts[field] > 1:
            seen[field] += 1
            name = f"{field}_{seen[field]}" if field.strip() else f"column_{position}"
            while name in taken:
                name += "_"
            taken.add(name)
        names.append(name)
    return names


def lacks(name: str, names: Collection[str]) -> str:
    """One sentence: the column that is not there, and those that are."""
    shown = [excerpt(one, SHOWN) for one in sorted(names)]
    more = f" and {len(shown) - 30} more" if len(shown) > 30 else ""
    return f"has no column {name!r}; it has {', '.join(shown[:30])}{more}"


def _cure(name: str, needed: Collection[str], fields: list[str], marks: Marks, line: str) -> str:
    if fields.count(name) > 1:
        return f". {name!r} is there twice: write {{{name}_1}} or {{{name}_2}}"
    if not name and (unnamed := [one for one in unique(fields) if one.startswith("column_")]):
        return f". A column without a name is written {{{unnamed[0]}}}"
    for delimiter, written in DELIMITERS.items():
        if delimiter != marks.delimiter and set(needed) <= {f.strip(' "') for f in line.strip().split(delimiter)}:
            return f". The delimiter looks like {delimiter!r}: set `delimiter: {written}`"
    if blank := [one for one in fields if one != name and one.strip().lower() == name.strip().lower()]:
        return f". Write it as it stands: {{{blank[0]}}}"
    if len(fields) == 1 or any(len(one) > SHOWN or one.strip().isdigit() or "\n" in one for one in fields):
        return ". If this line is no header, set `header: none` and name the columns in `columns`"
    return ""
