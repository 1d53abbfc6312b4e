"""A lake that can only be read: listings and whole small files, each request counted. Any fsspec URL."""

import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec

from embed_worker.extras import told
from embed_worker.lake import clock
from embed_worker.lake.errors import StoreUnavailable
from embed_worker.lake.parallel import in_parallel
from embed_worker.lake.secrets import check_address
from embed_worker.lake.store import WHOLE

STAMPS = ("ETag", "etag", "LastModified", "last_modified", "updated", "mtime", "created", "ino")
"""What file systems tell of a file's version, besides its size."""


@dataclass(frozen=True)
class Version:
    """What the lake tells of a file without its content: another version has another one."""

    bytes: int
    stamp: str
    written: float | None
    """By the store's clock, seconds since the epoch; None where it does not say."""

    @classmethod
    def of(cls, info: Mapping[str, Any]) -> "Version":
        stamp = "|".join(str(info.get(key, "")) for key in STAMPS)
        return cls(int(info.get("size") or 0), stamp, clock.stamp_of(info, None))


class ReadOnlyLake:
    """Paths are relative to the root, with `/`."""

    def __init__(self, root: str, **storage_options: Any) -> None:
        if "://" not in root:
            root = str(Path(root).expanduser().absolute())
        try:
            check_address(root)  # it is shown on the page
            self._fs, base = fsspec.core.url_to_fs(root, **{"use_listings_cache": False, **storage_options})
        except (ImportError, ValueError) as error:
            raise StoreUnavailable(f"the lake cannot be opened: {told(error)}") from None
        self._is_s3 = root.startswith(("s3://", "s3a://"))
        self._whole = WHOLE if self._is_s3 else {}
        self.root = root.rstrip("/")
        self._base = str(base).rstrip("/")
        self._lock = threading.Lock()
        self.requests: Counter[str] = Counter()
        """Calls by kind, `list` and `read`. A listing of many files is one call here and a request a 1,000 on S3."""

    def list(self, folder: str) -> list[str]:
        """Names in a folder, sorted; empty where there is none."""
        self._count("list")
        try:
            found = self._fs.ls(f"{self._base}/{folder}", detail=False)
        except (FileNotFoundError, NotADirectoryError):
            return []
        names = (str(name).rstrip("/").rsplit("/", 1)[-1] for name in found)
        return sorted(name for name in names if name and name != folder.rsplit("/", 1)[-1])

    def find(self, folder: str) -> dict[str, Version]:
        """Every JSON file under a folder with its version, in one listing."""
        self._count("list")
        try:
            found = self._fs.find(f"{self._base}/{folder}", detail=True)
        except FileNotFoundError:
            return {}
        files = {}
        for name, info in found.items():
            path = f"{folder}/{str(name).split(f'{self._base}/{folder}/', 1)[-1]}"
            if path.endswith(".json") and not path.rsplit("/", 1)[-1].startswith("."):
                files[path] = Version.of(info)
        return files

    def version(self, path: str) -> Version | None:
        """None where there is no such file."""
        self._count("read")
        try:
            return Version.of(self._fs.info(f"{self._base}/{path}"))
        except FileNotFoundError:
            return None

    def read(self, path: str) -> bytes:
        """Raises FileNotFoundError where there is no such file."""
        self._count("read")
        try:
            data: bytes = self._fs.cat_file(f"{self._base}/{path}", **self._whole)
        except IsADirectoryError as error:
            raise FileNotFoundError(path) from error
        return data

    def read_all(self, paths: Iterable[str]) -> dict[str, bytes]:
        """Many small files at once, without those that are gone."""

        def read(path: str) -> bytes | None:
            try:
                return self.read(path)
            except FileNotFoundError:
                return None

        paths = list(paths)
        found = zip(paths, in_parallel(read, paths), strict=True)
        return {path: data for path, data in found if data is not None}

    def url(self, path: str) -> str:
        return f"{self.root}/{path}"

    def clock_offset(self) -> float:
        """Seconds by which the store's clock is ahead of this machine's; 0 where it does not tell its own."""
        if not self._is_s3:
            return 0.0
        self._count("list")
        return clock.told_by_s3(self._fs, self._base) - time.time()

    def _count(self, kind: str) -> None:
        with self._lock:
            self.requests[kind] += 1
