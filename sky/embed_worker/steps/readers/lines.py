"""Lines of bounded length."""

import io
from collections.abc import Iterator
from typing import IO

import numpy as np

from embed_worker.steps.readers import base


class Lines:
    """Lines with their ends, numbered from 1; None for one longer than a record may be. Lines can be given back."""

    def __init__(self, stream: IO[bytes], end: bytes = b"\n") -> None:
        self._stream = io.BufferedReader(stream, base.BUFFER) if end == b"\n" else _Ended(stream, end)  # type: ignore[type-var,arg-type]
        self._end = end
        self._back: list[bytes | None] = []
        self._held, self._at = b"", 0
        """Bytes behind those lines, and how many of them are gone."""
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
        if self._at < len(self._held):
            end = self._held.find(self._end, self._at) + 1
            line = self._held[self._at : end or None]
            self._at = end or len(self._held)
            if end:
                return line if len(line) <= base.MAX_LINE else None
            if len(line) < base.MAX_LINE:
                line += self._stream.readline(base.MAX_LINE - len(line))
        else:
            line = self._stream.readline(base.MAX_LINE)
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
        data = b"".join(line for line in reversed(self._back) if line) + self._held[self._at :]
        self._back, self._held, self._at = [], b"", 0
        if len(data) < size:
            data += self._stream.read(size - len(data))  # type: ignore[union-attr]
        if end := data.find(b"\n", size - 1) + 1:
            self._held = data[end:]
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
        self._held, self._at = data + self._held, 0

    def unread(self) -> int:
        """Lines that have been read of the stream and not been given."""
        ahead = self._stream.peek() if isinstance(self._stream, io.BufferedReader) else b""
        begun = not ahead and len(self._held) > self._at and not self._held.endswith(b"\n")  # the file ends so
        return len(self._back) + count_of(self._held[self._at :], 10) + begun + count_of(ahead, 10)


def _count(data: bytes) -> int:
    return count_of(data, 10) + bool(data and not data.endswith(b"\n"))


def count_of(data: bytes, byte: int) -> int:
    """How often a byte is there."""
    return int(np.count_nonzero(np.frombuffer(data, np.uint8) == byte))


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
