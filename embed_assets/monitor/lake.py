"""A lake that can only be read: listings and whole small files, each request counted. Any fsspec URL."""

import threading
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
import orjson

from embed_worker.lake.errors import StoreUnavailable
from embed_worker.lake.parallel import in_parallel
from embed_worker.lake.secrets import check_address
from embed_worker.lake.store import WHOLE

STAMPS = ("ETag", "etag", "LastModified", "last_modified", "updated", "mtime", "created", "ino")
"""What file systems tell of a file's version, besides its size."""


@dataclass(frozen=True)
class Version:
    """What a listing tells of a file: another version has another one."""

    bytes: int
    stamp: str


class ReadOnlyLake:
    """Paths are relative to the root, with `/`."""

    def __init__(self, root: str, **storage_options: Any) -> None:
        if "://" not in root:
            root = str(Path(root).expanduser().absolute())
        try:
            check_address(root)  # it is shown on the page
            self._fs, base = fsspec.core.url_to_fs(root, **{"use_listings_cache": False, **storage_options})
        except (ImportError, ValueError) as error:
            raise StoreUnavailable(f"the lake cannot be opened: {error}") from None
        self._whole = WHOLE if root.startswith(("s3://", "s3a://")) else {}
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
                files[path] = Version(int(info.get("size") or 0), "|".join(str(info.get(key, "")) for key in STAMPS))
        return files

    def read_json(self, path: str) -> Any:
        """None where there is no such file, or it is not JSON: a file being replaced is read the next time."""
        self._count("read")
        try:
            return orjson.loads(self._fs.cat_file(f"{self._base}/{path}", **self._whole))
        except (FileNotFoundError, IsADirectoryError, orjson.JSONDecodeError):
            return None

    def read_all(self, paths: Iterable[str]) -> dict[str, Any]:
        """Many files at once, without those that are not there."""
        paths = list(paths)
        found = zip(paths, in_parallel(self.read_json, paths), strict=True)
        return {path: value for path, value in found if value}

    def _count(self, kind: str) -> None:
        with self._lock:
            self.requests[kind] += 1
