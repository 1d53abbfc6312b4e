"""Records of JSON that are no lines: arrays, and objects that span lines. Streaming: one value in memory at a time."""

import re
from collections.abc import Iterator
from typing import IO

from embed_worker.steps.errors import SourceError
from embed_worker.steps.readers.base import BUFFER, MAX_LINE
from embed_worker.steps.values import excerpt

STRUCTURE = re.compile(rb'["\[\]{}]')
IN_TEXT = re.compile(rb'["\\\n]')
AFTER_SCALAR = re.compile(rb"[\s,\]}]")
NOT_BLANK = re.compile(rb"[^ \t\r\n]")
PAIRS = {b"}": b"{", b"]": b"["}


class Values:
    """The values of a JSON file, arrays at the top opened; each as (bytes, its first line).

    A value whose brackets and quotes do not match leaves nothing to go on by: SourceError, with its line.
    """

    def __init__(self, stream: IO[bytes], url: str) -> None:
        self._stream, self._url = stream, url
        self._data = b""
        self._at = 0
        self._line = 1
        self.separators = 0
        """Bytes between the values."""
        self.value_bytes = 0

    def __iter__(self) -> Iterator[tuple[bytes | None, int]]:
        in_array, array_line = False, 0
        while (byte := self._next_byte()) is not None:
            if byte == b",":
                self._skip(1)
            elif not in_array and byte == b"[":
                in_array, array_line = True, self._line
                self._skip(1)
            elif in_array and byte == b"]":
                in_array = False
                self._skip(1)
            elif byte == b"}" or (not in_array and byte != b"{"):
                raise self._broken(
                    f"{excerpt(self._data[self._at : self._at + 40], 40)!r} stands where a record should begin"
                )
            else:
                line = self._line
                yield self._value(), line
        if in_array:
            raise SourceError(
                f"{self._url} is cut off: the array that begins in line {array_line} has no ]; fetch it again"
            )

    def _value(self) -> bytes | None:
        """The value that begins here, whole; None where it is longer than a record may be."""
        if self._data[self._at : self._at + 1] not in (b"{", b"[", b'"'):
            end = self._find(AFTER_SCALAR, self._at + 1)
            return self._take(len(self._data) if end is None else end.start())
        opened: list[bytes] = []
        at, begun = self._at, self._line
        while True:
            found = self._find(STRUCTURE, at)
            if found is None:
                raise SourceError(
                    f"{self._url} is cut off: the record that begins in line {begun} does not end; fetch it again"
                )
            at, mark = found.end(), found.group()
            if mark == b'"':
                at = self._text_end(at)
            elif mark in PAIRS:
                if not opened or opened.pop() != PAIRS[mark]:
                    raise self._broken(f"a {mark.decode()} closes nothing", at)
            else:
                opened.append(mark)
            if at - self._at > MAX_LINE:
                raise self._broken(f"the record that begins in line {begun} is longer than {MAX_LINE >> 20} MiB")
            if not opened:
                return self._take(at)

    def _text_end(self, at: int) -> int:
        while True:
            found = self._find(IN_TEXT, at)
            if found is None:
                raise self._cut_off("it ends within a text")
            if found.group() == b'"':
                return found.end()
            if found.group() == b"\n":
                raise self._broken("a text is not closed in its line", found.start())
            at = found.end() + 1

    def _find(self, pattern: re.Pattern[bytes], at: int) -> re.Match[bytes] | None:
        """The next match from a place on, reading on where there is none yet."""
        while True:
            if (found := pattern.search(self._data, at)) is not None:
                return found
            at = max(at, len(self._data))
            if not self._more():
                return None

    def _more(self) -> bool:
        data = self._stream.read(max(BUFFER, len(self._data) - self._at))
        # What is before the value that is being read is done with; places in it stay as they are until it is taken.
        self._data += data
        return bool(data)

    def _next_byte(self) -> bytes | None:
        """The next byte that is no blank; what was before it is dropped."""
        while True:
            found = NOT_BLANK.search(self._data, self._at)
            end = found.start() if found else len(self._data)
            self.separators += end - self._at
            self._line += self._data.count(b"\n", self._at, end)
            self._at = end
            if found:
                return found.group()
            self._data, self._at = b"", 0
            if not self._more():
                return None

    def _skip(self, size: int) -> None:
        self._at += size
        self.separators += size

    def _take(self, end: int) -> bytes:
        value = self._data[self._at : end]
        self.value_bytes += len(value)
        self._line += value.count(b"\n")
        self._at = end
        if end > BUFFER:
            self._data, self._at = self._data[end:], 0
        return value

    def _cut_off(self, what: str) -> SourceError:
        return SourceError(f"{self._url} is cut off: {what}; fetch it again")

    def _broken(self, what: str, at: int | None = None) -> SourceError:
        line = self._line + (self._data.count(b"\n", self._at, at) if at is not None else 0)
        return SourceError(f"{self._url} is malformed JSON in line {line}: {what}")
