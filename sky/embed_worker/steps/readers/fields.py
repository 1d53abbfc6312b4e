"""One record of CSV or TSV → its fields, strictly: what a quote or an escape does is said by the marks alone."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from embed_worker.steps.dialect import C_STYLE
from embed_worker.steps.readers import base
from embed_worker.steps.values import NUMBER

C_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "v": "\v", "0": "\0", "\\": "\\"}


@dataclass(frozen=True)
class Marks:
    """What separates, encloses and escapes."""

    delimiter: str
    quote: str | None
    escape: str | None
    skip_blank: bool = False

    @property
    def c_style(self) -> bool:
        return self.escape == C_STYLE

    @property
    def escape_character(self) -> str | None:
        return "\\" if self.escape == C_STYLE else self.escape


@dataclass
class Parsed:
    """A record's fields, or what is wrong in it."""

    fields: list[str]
    lines: int = 1
    """Lines that it spans."""
    fault: str | None = None
    quoted: int = 0
    """Fields in quotes."""
    words: int = 0
    """Fields without quotes that are no numbers, where any has quotes."""
    stray: bool = False
    """A field without quotes around it has one in it."""
    ended: bool = False
    """The file ended within quotes."""


class FieldParser:
    """Parses records; `more` gives the next line where a record goes on, or None at the end."""

    def __init__(self, marks: Marks) -> None:
        self.marks = marks
        stops = [re.escape(mark) for mark in (marks.quote, marks.escape_character) if mark]
        self._in_quotes = re.compile("|".join(stops)) if stops else None
        escape = [re.escape(marks.escape_character)] if marks.escape_character else []
        self._in_plain = re.compile("|".join([re.escape(marks.delimiter), *escape]))

    def parse(self, line: str, more: Callable[[], str | None]) -> Parsed:
        marks = self.marks
        if (marks.quote is None or marks.quote not in line) and (
            marks.escape_character is None or marks.escape_character not in line
        ):
            fields = without_end(line).split(marks.delimiter)
            return Parsed([field.lstrip(" ") for field in fields] if marks.skip_blank else fields)
        found, text, at = Parsed([]), line, 0
        while True:
            end = len(without_end(text))
            if marks.skip_blank:
                while at < end and text[at] == " ":
                    at += 1
            if marks.quote is not None and text.startswith(marks.quote, at):
                field, text, at = self._quoted(text, at + 1, more, found)
                found.quoted += 1
                end = len(without_end(text))
                if found.ended:
                    return found
                if marks.skip_blank:
                    while at < end and text[at] == " ":
                        at += 1
                if at < end and not text.startswith(marks.delimiter, at):
                    found.fault = "quote closes in mid-field"
                    return found
            else:
                field, text, at = self._plain(text, at, more, found)
                found.words += bool(field) and NUMBER.fullmatch(field) is None
                end = len(without_end(text))
            found.fields.append(field)
            if at >= end:
                return found
            at += len(marks.delimiter)

    def _quoted(self, text: str, at: int, more: Callable[[], str | None], found: Parsed) -> tuple[str, str, int]:
        assert self._in_quotes is not None
        parts, size = [], 0
        while True:
            hit = self._in_quotes.search(text, at)
            if hit is None:
                parts.append(text[at:])
                size += len(parts[-1])
                following = more() if size < base.MAX_LINE else None
                if following is None:
                    found.ended = True
                    return "".join(parts), text, len(text)
                text, at = following, 0
                found.lines += 1
                continue
            parts.append(text[at : hit.start()])
            mark, at = hit.group(), hit.end()
            if mark == self.marks.quote:
                if not text.startswith(self.marks.quote, at):
                    return "".join(parts), text, at
                parts.append(mark)
                at += 1
            else:
                said, at = self._escaped(text, at)
                parts.append(said)

    def _plain(self, text: str, at: int, more: Callable[[], str | None], found: Parsed) -> tuple[str, str, int]:
        parts, begun = [], at
        while True:
            end = len(without_end(text))
            hit = self._in_plain.search(text, at, end)
            parts.append(text[at : hit.start() if hit else end])
            if hit is None or hit.group() == self.marks.delimiter:
                stop = hit.start() if hit else end
                if self.marks.c_style and text[begun:stop] == "\\N":
                    return "\\N", text, stop
                field = "".join(parts)
                found.stray |= self.marks.quote is not None and self.marks.quote in field
                return field, text, stop
            if hit.end() >= end:  # an escaped line end: the field goes on
                parts.append(text[end:])
                following = more()
                if following is None:
                    return "".join(parts), text, len(text)
                text, at, begun = following, 0, -1
                found.lines += 1
                continue
            said, at = self._escaped(text, hit.end())
            parts.append(said)

    def _escaped(self, text: str, at: int) -> tuple[str, int]:
        """What stands for an escape and what follows it, and where the text goes on."""
        marks = self.marks
        if at >= len(text):
            return str(marks.escape_character), at
        one = text[at]
        if marks.c_style and one in C_ESCAPES:
            return C_ESCAPES[one], at + 1
        if text.startswith(marks.delimiter, at):
            return marks.delimiter, at + len(marks.delimiter)
        if one in (marks.quote, marks.escape_character):
            return one, at + 1
        if text.startswith("\r\n", at):
            return "\r\n", at + 2
        if one in "\r\n":
            return one, at + 1
        return str(marks.escape_character) + one, at + 1


def without_end(line: str) -> str:
    if line.endswith("\r\n"):
        return line[:-2]
    return line[:-1] if line.endswith(("\n", "\r")) else line
