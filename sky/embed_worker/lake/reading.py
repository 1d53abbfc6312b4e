"""What reads the lake, and a file of it while it is read."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import IO, Any, Protocol


class Readable(Protocol):
    """A lake, for who only reads whole small files."""

    def read(self, path: str) -> bytes:
        """Raises FileNotFoundError where there is no such file."""

    def url(self, path: str) -> str:
        """Full URL of a path, for people."""


class Reading:
    """An open file whose reads raise what the store's other calls raise: its server may go away in the middle."""

    def __init__(self, file: IO[bytes], errors: Callable[[], AbstractContextManager[None]]) -> None:
        self._file, self._errors = file, errors

    def read(self, size: int = -1) -> bytes:
        with self._errors():
            return self._file.read(size)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)
