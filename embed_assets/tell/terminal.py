"""The terminal that commands print to: whatever a text of the lake holds, it is only shown."""

import json
import logging
import unicodedata
from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.highlighter import JSONHighlighter
from rich.segment import Segment
from rich.style import Style
from rich.text import Text

KEPT = frozenset("\n\u00ad\u200c\u200d")
"""Soft hyphens and joiners belong to the writing of words and of emoji."""


class CommandError(Exception):
    """Ends a command with one clear sentence."""


def printable(text: str) -> str:
    """The text with control characters, and those that change the direction of writing, as escapes: `\\x1b`."""
    return text if text.isprintable() else "".join(map(_escaped, text))


def _escaped(c: str) -> str:
    if c.isprintable() or c in KEPT or unicodedata.category(c) == "Zs":
        return c
    return c.encode("unicode_escape").decode()


def shown(text: str, style: str | Style = "") -> Text:
    """Words of the lake, of a file or of an error, as a piece of a table or line."""
    return Text(printable(text), style)


class Terminal(Console):
    """No string is markup here, and none gets past `printable`, also where `shown` was forgotten."""

    def __init__(self, *, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, markup=False, emoji=False)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(printable(segment.text), segment.style)

    def print_data(self, data: Any) -> None:
        """As JSON: ASCII alone, on a pipe and on a terminal."""
        text = json.dumps(data, indent=2, ensure_ascii=True).replace("\x7f", "\\u007f")
        self.print(JSONHighlighter()(text), soft_wrap=True)


class PrintableFormatter(logging.Formatter):
    """For a log that is read in a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


console = Terminal()
errors = Terminal(stderr=True)
