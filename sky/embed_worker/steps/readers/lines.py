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
        self.number = 0
        """Of the line given last."""

    def __iter__(self) -> Iterator[bytes | None]:
        while (line := self.next()) != b"":
            yield line

    def next(self) -> bytes | None:
        """The next line; empty at the end."""
        if self._back:
            self.number += 1
            return self._back.pop()
        line = self._stream.readline(base.MAX_LINE)
        if line:
            self.number += 1
        if len(line) >= base.MAX_LINE and not line.endswith(self._end):
            while (rest := self._stream.readline(base.MAX_LINE)) and not rest.endswith(self._end):
                continue
            return None
        return line

    def give_back(self, lines: list[bytes | None]) -> None:
        """The last lines taken, in their order: they come again."""
        self._back += reversed(lines)
        self.number -= len(lines)


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
