"""Lines of bounded length."""

import io
from collections.abc import Iterator
from typing import IO

from embed_worker.steps.readers import base


class Lines:
    """Lines with their ends, numbered from 1; None for one longer than a record may be. Lines can be given back."""

    def __init__(self, stream: IO[bytes], end: bytes = b"\n") -> None:
        self._stream = io.BufferedReader(stream, base.BUFFER) if end == b"\n" else _Ended(stream, end)  # type: ignore[type-var,arg-type]
        self._end = end
        self._back: list[bytes | None] = []
        self._begun = b""
        """Of the line behind those given back."""
        self.number = 0
        """Of the line given last."""
        self.bytes = 0
        """Of the lines so far, but those too long."""

    def __iter__(self) -> Iterator[bytes | None]:
        while (line := self.next()) != b"":
            yield line

    def next(self) -> bytes | None:
        """The next line; empty at the end."""
        line = self._back.pop() if self._back else self._read()
        if line is None:
            self.number += 1
        elif line:
            self.number += 1
            self.bytes += len(line)
        return line

    def _read(self) -> bytes | None:
        line = self._begun
        if len(line) < base.MAX_LINE:
            line += self._stream.readline(base.MAX_LINE - len(line))
        self._begun = b""
        if len(line) >= base.MAX_LINE and not line.endswith(self._end):
            while (rest := self._stream.readline(base.MAX_LINE)) and not rest.endswith(self._end):
                continue
            return None
        return line

    def give_back(self, lines: list[bytes | None]) -> None:
        """The last lines taken, in their order: they come again."""
        self._back += reversed(lines)
        self.number -= len(lines)
        self.bytes -= sum(len(line) for line in lines if line)

    # -- many at once, of lines that end with a line feed --------------------------------------------------------

    @property
    def is_whole(self) -> bool:
        """No line that was given back was too long to be kept."""
        return None not in self._back

    def some(self, size: int) -> bytes:
        """The next lines up to the first that ends at `size` or behind it, all that is left at the end. The last may
        be too long, and cut off then. Only where `is_whole`."""
        data = b"".join(line for line in reversed(self._back) if line) + self._begun
        self._back, self._begun = [], b""
        if len(data) < size:
            data += self._stream.read(size - len(data))  # type: ignore[union-attr]
        if end := data.find(b"\n", size - 1) + 1:
            self._split(data[end:])
            data = data[:end]
        elif data:
            data += self._stream.readline(base.MAX_LINE)
        self.number += _count(data)
        self.bytes += len(data)
        return data

    def put_back(self, data: bytes) -> None:
        """What `some` gave last: it comes again."""
        self.number -= _count(data)
        self.bytes -= len(data)
        self._split(data)

    def _split(self, data: bytes) -> None:
        *whole, last = data.split(b"\n")
        lines = [line + b"\n" if len(line) < base.MAX_LINE else None for line in whole]
        if last and self._ahead():
            self._begun = last
        elif last:
            lines.append(last if len(last) < base.MAX_LINE else None)
        self._back += reversed(lines)

    def _ahead(self) -> bytes:
        return self._stream.peek() if isinstance(self._stream, io.BufferedReader) else b""

    def unread(self) -> int:
        """Lines that have been read of the stream and not been given."""
        return len(self._back) + self._ahead().count(b"\n")


def _count(data: bytes) -> int:
    return data.count(b"\n") + bool(data and not data.endswith(b"\n"))


class _Ended:
    """readline for files whose lines end as a classic Mac's."""

    def __init__(self, stream: IO[bytes], end: bytes) -> None:
        self._stream, self._end, self._data = stream, end, b""

    def readline(self, size: int) -> bytes:
        while (at := self._data.find(self._end)) < 0 and len(self._data) < size:
            more = self._stream.read(base.BUFFER)
            if not more:
                break
            self._data += more
        stop = min(size, at + 1 if at >= 0 else len(self._data))
        line, self._data = self._data[:stop], self._data[stop:]
        return line
