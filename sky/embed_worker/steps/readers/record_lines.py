"""The lines of a file of CSV or TSV as they become records: taken, given back, counted beside the reader."""

from typing import IO

from embed_worker.steps.opening import Unpacked
from embed_worker.steps.readers.base import Account
from embed_worker.steps.readers.lines import Lines, count_of

AHEAD = 200
"""Lines that a record whose quotes do not match may span."""
FURTHER = 1 << 20
"""Bytes in which a quote that is open is looked for the end of."""


class RecordLines:
    """Some of the lines may be taken past the reader of the records, as `lines` has them."""

    def __init__(self, head: bytes, rest: IO[bytes]) -> None:
        self.account = Account()
        self._taken: list[bytes | None] = []
        """Lines of the record that is being read."""
        self._read_on(head, rest, b"\r" if b"\r" in head and b"\n" not in head else b"\n")

    def _read_on(self, head: bytes, rest: IO[bytes], end: bytes) -> None:
        self._stream = Unpacked(head, rest, end)
        self.lines = Lines(self._stream, end)  # type: ignore[arg-type]
        self.in_lines = end == b"\n"
        """Which can be taken as `lines` has them."""
        self._counted = 0

    def some(self, size: int, quote: str | None) -> bytes:
        """The next lines, `size` bytes and on to where no quote is open; empty at the end. `lines` takes them back."""
        data = self.lines.some(size)
        if quote and quote.isascii() and count_of(data, ord(quote)) % 2:
            more, odd = [data], True
            while odd and sum(map(len, more[1:])) < FURTHER and (line := self.lines.some(1)):
                more.append(line)
                odd ^= line.count(quote.encode()) % 2 == 1
            data = b"".join(more)
        return data

    def passed(self) -> None:
        """Lines were taken past this reader: they are another's to count."""
        self._counted = self._stream_lines()

    def _count(self) -> None:
        """Adds the lines since the last count, as the stream counts them."""
        counted = self._stream_lines()
        self.account.total += counted - self._counted
        self._counted = counted
        self.account.whole = True

    def _stream_lines(self) -> int:
        unread = self.lines.unread()  # it may read on
        return self._stream.lines - unread

    def _next(self) -> str | None:
        """The first line of a record; None for one too long, empty at the end."""
        self._taken = []
        return self._line()

    def _line(self) -> str | None:
        line = self.lines.next()
        if line != b"":
            self._taken.append(line)
        return None if line is None else line.decode("utf-8", "surrogateescape")

    def _more(self) -> str | None:
        return self._line() or None

    def _account(self, lines: int) -> None:
        self.account.records += 1
        self.account.accounted += lines
        if lines > 1:
            self.account.note("records of several lines")

    def _give_back(self, keep: int) -> None:
        self.lines.give_back(self._taken[keep:])
        self._taken = self._taken[:keep]

    def _take_again(self, count: int) -> None:
        for _ in range(count):
            self._line()

    def _ahead(self, limit: int = AHEAD) -> list[str]:
        """The lines that follow, which stay where they are."""
        before = len(self._taken)
        found: list[str] = []
        while len(found) < limit and (line := self._line()):
            found.append(line)
        self._give_back(before)
        return found
