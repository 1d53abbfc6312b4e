"""The lake as the commit protocol needs it: create-only puts, atomic replaces, reads. Any fsspec URL."""

import os
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeVar, cast

import fsspec
import orjson
from fsspec.implementations.local import LocalFileSystem

from embed_worker.extras import told
from embed_worker.lake import clock, failpoints, local_disk, store_errors
from embed_worker.lake.errors import NoSpace, StoreUnavailable
from embed_worker.lake.reading import Reading
from embed_worker.lake.secrets import check_address
from embed_worker.lake.store_errors import FULL, LOST, NO_BUCKET, NO_RANGE, NO_UPLOAD, server_code, until_decided

T = TypeVar("T")

CREATE_ONLY_REMOTES = {"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az"}
"""Protocols whose fsspec file system maps mode="create" to a conditional put on the server."""
PUT_ID = "embed-put"
"""Metadata of an object on S3: which put made it."""
WHOLE = {"max_concurrency": 1}
"""s3fs asks for an object's size before it reads, to read it in pieces: twice the requests for small files."""
UPLOAD = {"chunksize": 16 << 20, "max_concurrency": 4}
"""Pieces of a file on its way to S3, and how many are in memory at a time, each twice; s3fs takes 10 of 50 MB."""


@dataclass(frozen=True)
class Listed:
    """A file, as a listing shows it."""

    path: str
    """Relative to the lake."""
    bytes: int
    written: float
    """When, by the store's clock, in seconds since the epoch."""


class Store:
    """One lake root. Paths are relative to it, with `/`; `.`, `..` and absolute paths are refused."""

    def __init__(self, root: str, **storage_options: Any) -> None:
        try:
            check_address(root)
        except ValueError as error:
            raise StoreUnavailable(f"EMBED_LAKE: {error}") from None
        if "::" in root:
            raise StoreUnavailable(f"lake {root}: a chained URL (::) cannot be a lake")
        if "://" not in root:
            root = str(Path(root).expanduser().absolute())
        protocol = root.split("://", 1)[0] if "://" in root else "file"
        options = dict(storage_options)
        if protocol in CREATE_ONLY_REMOTES:
            options.setdefault("use_listings_cache", False)
        try:
            fs, path = fsspec.core.url_to_fs(root, **options)
        except (ImportError, ValueError) as error:
            raise StoreUnavailable(f"lake {root}: {told(error)}") from error
        self.root = root.rstrip("/")
        self.fs = fs
        self._base = path.rstrip("/")
        self.is_local = isinstance(fs, LocalFileSystem)
        self._is_s3 = self.tells_time = protocol in ("s3", "s3a")
        if not self.is_local and protocol not in CREATE_ONLY_REMOTES:
            raise StoreUnavailable(
                f"lake {root}: no create-only put is known for {protocol}://; use a local folder, s3://, gs:// or az://"
            )

    def url(self, path: str) -> str:
        """Full URL of a path, for people and for Dagster metadata."""
        return f"{self.root}/{path}"

    def path(self, path: str) -> str:
        """The path as the file system takes it."""
        parts = path.split("/")
        if path.startswith("/") or "." in parts or ".." in parts or "\\" in path or "\x00" in path:
            raise ValueError(f"{path!r} leads out of the lake")
        whole = f"{self._base}/{path}" if path else self._base
        if self.is_local and path and not os.path.realpath(whole).startswith(os.path.realpath(self._base) + "/"):
            raise ValueError(f"{path!r} leads out of the lake through a symbolic link")
        return whole

    # -- reading ---------------------------------------------------------------------------------

    def exists(self, path: str) -> bool:
        with self._errors(path):
            return bool(self.fs.exists(self.path(path)))

    def read(self, path: str) -> bytes:
        """Raises FileNotFoundError where there is no such file."""
        with self._errors(path):
            data: bytes = self.fs.cat_file(self.path(path), **(WHOLE if self._is_s3 else {}))
            return data

    def read_range(self, path: str, offset: int, length: int) -> bytes:
        """Fewer bytes where the file ends before. Raises FileNotFoundError where there is no such file."""
        with self._errors(path):
            try:
                data: bytes = self.fs.cat_file(self.path(path), start=offset, end=offset + length)
            except OSError as error:
                if server_code(error) in NO_RANGE:
                    return b""
                raise
            return data

    def read_json(self, path: str) -> Any:
        try:
            return orjson.loads(self.read(path))
        except orjson.JSONDecodeError as error:
            raise ValueError(f"{self.url(path)} is not JSON: {error}") from error

    @contextmanager
    def open(self, path: str, *, sparse: bool = False) -> Iterator[IO[bytes]]:
        """A file for reading. `sparse`: few of its bytes are wanted, so nothing is read ahead."""
        options = {"cache_type": "none"} if sparse and not self.is_local else {}
        with self._errors(path):
            file = self.fs.open(self.path(path), "rb", **options)
        with file:
            yield cast(IO[bytes], Reading(file, lambda: self._errors(path)))

    def list(self, path: str) -> list[str]:
        """Names in a folder, sorted; empty where there is no such folder."""
        with self._errors(path):
            try:
                found = self.fs.ls(self.path(path), detail=False)
            except FileNotFoundError as error:
                if server_code(error) in NO_BUCKET:
                    raise
                return []
            folder = self.path(path).rstrip("/")
            names = (str(name).rstrip("/") for name in found)
            return sorted(name.rsplit("/", 1)[-1] for name in names if name != folder)

    def listing(self, path: str) -> Sequence[Listed]:
        """Every file under a folder, sorted; of one without a time, the time is now."""
        with self._errors(path):
            try:
                found = self.fs.find(self.path(path), detail=True)
            except FileNotFoundError as error:
                if server_code(error) in NO_BUCKET:
                    raise
                found = {}
            if not isinstance(found, dict):  # adlfs, of a path that is a file
                found = {name: self.fs.info(name) for name in found}
        prefix, now, files = len(self._base) + 1, time.time(), sorted(found.items())
        return [Listed(str(name)[prefix:], int(info["size"] or 0), clock.stamp_of(info, now)) for name, info in files]

    def walk(self, path: str) -> Iterator[tuple[str, int]]:
        """Every file under a folder as (path relative to the lake, bytes), sorted."""
        for file in self.listing(path):
            yield file.path, file.bytes

    def now(self) -> float:
        """The time by the store's clock, which stamps its files; this machine's, where the store does not tell its own.

        Raises StoreUnavailable where there is no such bucket or folder.
        """
        with self._errors(""):
            try:
                if self.tells_time:
                    return clock.told_by_s3(self.fs, self._base)
                there = self.fs.exists(self._base if self.is_local else self._base.partition("/")[0])
            except FileNotFoundError:
                there = False
        if there:
            return time.time()
        if self.is_local:
            raise StoreUnavailable(
                f"{self.root}: there is no such folder. Nothing was made yet, or EMBED_LAKE is wrong"
            )
        raise store_errors.bucket_missing(self.root)

    def again(self, work: Callable[[], T]) -> T:
        """Does what may be done twice: reading a whole file, say. A store with patience tries again."""
        return work()

    # -- writing ---------------------------------------------------------------------------------

    def create(self, path: str, data: bytes) -> bool:
        """Puts a file that must not exist yet. False where it exists: the first writer wins."""
        with self._errors(path):
            if self.is_local:
                return local_disk.create(Path(self.path(path)), lambda f: f.write(data))
            return self._put_new(path, len(data), lambda **put: self.fs.pipe_file(self.path(path), data, **put))

    def create_file(self, path: str, source: Path) -> bool:
        """Like `create`, from a local file; `source` made in `scratch()` costs no copy."""
        with self._errors(path):
            if self.is_local:
                return local_disk.create_from(Path(self.path(path)), source)
            size, pieces = source.stat().st_size, UPLOAD if self._is_s3 else {}
            return self._put_new(
                path, size, lambda **put: self.fs.put_file(str(source), self.path(path), **pieces, **put)
            )

    def replace(self, path: str, data: bytes) -> None:
        """Puts a small file, old or new as a whole: `_latest.json` and heartbeats only."""
        with self._errors(path):
            if self.is_local:
                local_disk.replace(Path(self.path(path)), data)
                return
            try:
                self.fs.pipe_file(self.path(path), data, timeout=clock.put_deadline(len(data)))
            except FileNotFoundError as error:
                raise store_errors.bucket_missing(self.root) from error

    def create_json(self, path: str, value: Any) -> bool:
        return self.create(path, to_json(value))

    def delete(self, path: str) -> None:
        """Removes a file or folder; one that is gone already is fine."""
        if not path:
            raise ValueError("the lake itself is not deleted")
        with self._errors(path):
            target = self.path(path)
            if self.is_local:
                local_disk.remove(Path(target))
                return
            try:
                self.fs.rm(target, recursive=True, timeout=clock.put_deadline())
            except FileNotFoundError:
                pass
            # One request takes many files, and s3fs hides which of them the server refused or a listing left out.
            for left in {target, *self.fs.find(target)}:
                try:
                    self.fs.rm_file(left)
                except FileNotFoundError:
                    pass

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """A temporary local folder for files on their way into the lake; on its disk where it is local.

        A disk that fills up while it is in use raises StoreUnavailable.
        """
        parent = None
        if self.is_local:
            parent = Path(self._base) / ".tmp"
            with self._errors(".tmp"):
                parent.mkdir(parents=True, exist_ok=True)
        folder = str(parent or tempfile.gettempdir())
        try:
            with tempfile.TemporaryDirectory(prefix="embed-", dir=parent, ignore_cleanup_errors=True) as folder:
                yield Path(folder)
        except OSError as error:
            if error.errno not in FULL:
                raise
            where = "or point EMBED_LAKE elsewhere" if self.is_local else "or point TMPDIR elsewhere"
            raise NoSpace(f"{folder}: no space left. Free some space, {where}") from error

    # -- inside ----------------------------------------------------------------------------------

    def _put_new(self, path: str, size: int, put: Callable[..., object]) -> bool:
        """A create-only put on a server. False where the name is taken by another put than this one."""
        put_id = uuid.uuid4().hex
        options: dict[str, Any] = {"Metadata": {PUT_ID: put_id}} if self._is_s3 else {}

        @until_decided
        def put_once() -> bool:
            try:
                put(mode="create", timeout=clock.put_deadline(size), **options)
                failpoints.reach("store.put")
                return True
            except FileExistsError:
                return self._made_by(path, put_id)
            except OSError as error:
                code = server_code(error)
                if code in LOST or (code in NO_UPLOAD and self.fs.exists(self.path(path))):
                    return self._made_by(path, put_id)
                if isinstance(error, FileNotFoundError) and code not in NO_UPLOAD:
                    raise store_errors.bucket_missing(self.root) from error
                raise

        return put_once()

    def _made_by(self, path: str, put_id: str) -> bool:
        """Whether an object is of this very put: the client sent it twice, as the first answer got lost."""
        if not self._is_s3:
            return False
        try:
            return bool(self.fs.metadata(self.path(path), refresh=True).get(PUT_ID) == put_id)
        except FileNotFoundError:
            return False

    def _errors(self, path: str) -> AbstractContextManager[None]:
        return store_errors.translated(self.url(path), self.is_local)


def to_json(value: Any) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY)
