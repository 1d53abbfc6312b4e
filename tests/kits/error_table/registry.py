"""The tables of docs/operations.md, and the provocations of what they quote."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tests.kits import ROOT
from tests.kits.error_table.scene import Scene

HEADER = "| the error says | it is | do |"
ENDINGS = "| status | it means | do |"
"""Of the table in docs/skypilot.md."""
MARK = "†"
"""Behind words that no test here can bring up."""

Provoke = Callable[[Scene], Iterator[str]]


@dataclass(frozen=True)
class Provocation:
    words: tuple[str, ...]
    provoke: Provoke

    @property
    def name(self) -> str:
        return self.provoke.__name__


PROVOCATIONS: list[Provocation] = []


def provokes(*words: str) -> Callable[[Provoke], Provoke]:
    """Registers a generator function as what brings up these words of the tables, all in one text."""

    def register(provoke: Provoke) -> Provoke:
        PROVOCATIONS.append(Provocation(words, provoke))
        return provoke

    return register


def rows(page: str = "operations.md", header: str = HEADER) -> list[str]:
    """The first cell of each row of the tables with this header."""
    found, inside = [], False
    for line in (ROOT / "docs" / page).read_text().splitlines():
        inside = line == header or (inside and line.startswith("|"))
        if inside and line != header and not line.startswith("|---"):
            found.append(re.split(r"(?<!\\)\|", line)[1].strip())
    return found


def quoted(cell: str) -> dict[str, bool]:
    """The words in backticks → whether they are marked as not provoked."""
    return {words: bool(mark) for words, mark in re.findall(rf"`([^`]+)`\s*({MARK})?", cell)}


def says(text: str, words: str) -> bool:
    """Whether a text has the words; `…` stands for anything on the way."""
    parts = [re.escape(" ".join(part.split())) for part in words.split("…")]
    return re.search(".*?".join(parts), " ".join(text.split())) is not None
