"""A file of the lake while it is read."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import IO, Any


class Reading:
    """An open file whose reads raise what the store's other calls raise: its server may go away in the middle."""

    def __init__(self, file: IO[bytes], errors: Callable[[], AbstractContextManager[None]]) -> None:
        self._file, self._errors = file, errors

    def read(self, size: int = -1) -> bytes:
        with self._errors():
            return self._file.read(size)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)
