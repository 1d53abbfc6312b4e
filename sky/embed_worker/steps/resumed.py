"""A file on a server that is read to its end though its connection breaks: it is taken up again where that happens."""

import io
from collections.abc import Callable
from typing import IO, Any, cast

import fsspec
from fsspec.implementations.local import LocalFileSystem
from tenacity import RetryCallState, retry, retry_if_exception, stop_after_delay, wait_exponential

PATIENCE_SECONDS = 300.0
"""For how long a server may give nothing."""
WAIT_SECONDS, MAX_WAIT_SECONDS = 0.5, 30.0
FINAL = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)
CLIENTS = ("aiohttp", "asyncio", "azure", "botocore", "aiobotocore", "google", "gcsfs", "httpx", "requests", "urllib3")
"""Packages whose own errors are no OSErrors."""


def opened(fs: fsspec.AbstractFileSystem, path: str) -> IO[bytes]:
    """A file for reading, whatever its connection does. A local one is opened as it is."""
    if isinstance(fs, LocalFileSystem):
        return cast(IO[bytes], fs.open(path, "rb"))
    return cast(IO[bytes], Resumed(lambda: fs.open(path, "rb")))


def passes(error: BaseException) -> bool:
    """Whether trying again may help."""
    if isinstance(error, FINAL):
        return False
    return isinstance(error, OSError | TimeoutError) or type(error).__module__.split(".")[0] in CLIENTS


class Resumed(io.RawIOBase):
    """Raises the last error where the server gives nothing for minutes."""

    def __init__(self, open_: Callable[[], Any]) -> None:
        self._open = open_
        self._file: Any = None
        self._at = 0
        again = retry(
            retry=retry_if_exception(passes),
            stop=stop_after_delay(PATIENCE_SECONDS),
            wait=wait_exponential(multiplier=WAIT_SECONDS, max=MAX_WAIT_SECONDS),
            before_sleep=self._drop,
            reraise=True,
        )
        self._found, self._got = again(self._there), again(self._read)
        self._seekable = bool(self._found().seekable())

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return self._seekable

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence == io.SEEK_END:
            self._at = int(self._found().seek(0, whence)) + offset
        else:
            self._at = offset + (self._at if whence == io.SEEK_CUR else 0)
        return self._at

    def read(self, size: int = -1) -> bytes:
        data: bytes = self._got(size)
        self._at += len(data)
        return data

    def readinto(self, buffer: Any) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._drop()
        super().close()

    def _read(self, size: int) -> bytes:
        data: bytes = self._there().read(size)
        whole = self._size()
        if not data and size != 0 and whole is not None and self._at < whole:
            raise ConnectionError(f"the server ended at byte {self._at:,} of {whole:,}")
        return data

    def _there(self) -> Any:
        """The open file at the place where the next byte is to come from."""
        if self._file is None:
            self._file = self._open()
        if self._file.seekable():
            if self._file.tell() != self._at:
                self._file.seek(self._at)
        else:
            self._skip()
        return self._file

    def _skip(self) -> None:
        if self._file.tell() > self._at:
            self._drop()
            self._file = self._open()
        while (missing := self._at - self._file.tell()) > 0:
            if not self._file.read(min(missing, 1 << 20)):
                raise ConnectionError(f"the server ended {missing:,} bytes before where it had been")

    def _size(self) -> int | None:
        size = getattr(self._file, "size", None)
        return size if isinstance(size, int) else None

    def _drop(self, _: RetryCallState | None = None) -> None:
        file, self._file = self._file, None
        if file is not None:
            try:
                file.close()
            except Exception:  # noqa: S110 - it is broken already
                pass


class Watched(io.RawIOBase):
    """A file that tells how many bytes are read of it."""

    def __init__(self, file: IO[bytes], told: Callable[[int], None]) -> None:
        self._file, self._told = file, told

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return self._file.seekable()

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self._told(len(data))
        return data

    def readinto(self, buffer: Any) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()
