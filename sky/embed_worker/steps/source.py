"""Finds the files of a dataset's source and what identifies their content."""

import fnmatch
import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import IO, Any, cast

import fsspec
from fsspec.core import get_fs_token_paths

from embed_worker.extras import told
from embed_worker.steps.dialect import Dialect
from embed_worker.steps.errors import SourceError
from embed_worker.steps.opening import unpacked
from embed_worker.steps.resumed import Watched, opened
from embed_worker.steps.spec import Format, SourceSpec

ETAG_KEYS = ("ETag", "etag", "md5Hash", "crc32c", "blob_id")
SUFFIXES: Mapping[str, Format] = {
    ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl", ".csv": "csv", ".tsv": "tsv", ".tab": "tsv",
    ".parquet": "parquet", ".pq": "parquet",
}  # fmt: skip
COMPRESSIONS = {".gz": "gzip", ".bz2": "bz2", ".xz": "xz", ".zst": "zstd", ".zstd": "zstd", ".lz4": "lz4"}
TARS = {
    ".tgz": "gzip",
    ".tar.gz": "gzip",
    ".tbz2": "bz2",
    ".tbz": "bz2",
    ".txz": "xz",
    ".tar.bz2": "bz2",
    ".tar.xz": "xz",
}
STAMP_KEYS = (*ETAG_KEYS, "size", "mtime", "created", "ino", "LastModified", "last_modified", "updated")
SETTLED_SECONDS = 2.0
"""A file changed again within one tick of its disk's clock shows the same time: so old is what a time proves."""
CHUNK = 1 << 20
MAGIC = set("*?[")
HIDDEN = (
    ".*",
    "__*",
    "_temporary",
    "_delta_log",
    "_spark_metadata",
    "_metadata",
    "_common_metadata",
    "~$*",
    "*~",
    "#*#",
)
"""Names of copies, checkpoints and notes that other programs leave beside the data."""


@dataclass(frozen=True)
class SourceFile:
    """One file of a source."""

    url: str
    fs: fsspec.AbstractFileSystem = field(repr=False, compare=False)
    path: str
    format: Format
    compression: str
    """As the spec says it: `infer` is decided by the first bytes."""
    dialect: Dialect = field(default_factory=Dialect, repr=False, compare=False)
    on_read: Callable[[int], None] | None = field(default=None, repr=False, compare=False)
    """Called with the stored bytes of each read."""

    def open(self) -> IO[bytes]:
        """The decompressed bytes."""
        named = next((kind for suffix, kind in COMPRESSIONS.items() if _name(self.path).endswith(suffix)), None)
        window = self.dialect.decompression_window
        return unpacked(self.open_stored, self.url, self.compression, named, window)

    def open_stored(self) -> IO[bytes]:
        """The bytes as they are stored; a connection that breaks is taken up again where it broke."""
        file = opened(self.fs, self.path)
        return cast(IO[bytes], Watched(file, self.on_read)) if self.on_read else file

    def stamp(self) -> dict[str, Any]:
        """What changes when the file does, as far as the store tells without reading it."""
        info = self.fs.info(self.path)
        return {key: str(info[key]) for key in STAMP_KEYS if info.get(key) is not None}

    def content(self) -> str:
        """What tells the stored bytes from all others: the store's own tag where it has one, else their sha256."""
        info = self.fs.info(self.path)
        for key in ETAG_KEYS:
            if info.get(key):
                tag = str(info[key]).strip('"')
                return f"{self.url} {info.get('size')} {tag}"  # of two stores, equal tags may mean different bytes
        hasher = hashlib.sha256()
        with self.open_stored() as file:
            while block := file.read(CHUNK):
                hasher.update(block)
        return hasher.hexdigest()


def proves(stamp: Mapping[str, str], now: float) -> bool:
    """Whether a file with this stamp is sure to be the one that had it before."""
    if any(stamp.get(key) for key in ETAG_KEYS):
        return True
    if not {"size", "mtime", "ino"} <= stamp.keys():
        return False
    try:
        return now - float(stamp["mtime"]) > SETTLED_SECONDS
    except ValueError:
        return False


@dataclass(frozen=True)
class Found:
    """The files of a source in reading order, and what was left out."""

    files: list[SourceFile]
    warnings: list[str]


def find_files(dataset: SourceSpec) -> list[SourceFile]:
    """The files in reading order: sources as listed, globs sorted. Raises SourceError where there are none."""
    return find(dataset).files


def find(dataset: SourceSpec) -> Found:
    """The files, and which hidden ones a pattern found and left out. Raises SourceError where there are none."""
    files: list[SourceFile] = []
    warnings: list[str] = []
    taken: dict[str, str] = {}
    for source in dataset.sources:
        where = f"dataset {dataset.name}: {source}"
        fs, paths = _matches(source, dataset, where)
        if source.startswith("hf://datasets/") and "@" not in "/".join(source.split("/")[:5]):
            warnings.append(f"{source} names no revision, and what the hub has there can change: write NAME@COMMIT")
        if not dataset.include_hidden and MAGIC & set(source):
            hidden = [path for path in paths if _is_hidden(fs, source, path)]
            paths = [path for path in paths if path not in hidden]
            if hidden and not paths:
                raise SourceError(f"{where} finds hidden files only, such as {hidden[0]}; set `include_hidden: true`")
            if hidden:
                warnings.append(f"{source}: {len(hidden)} hidden files are not read, such as {hidden[0]}")
        for path in sorted(paths):
            outer = source.split("::", 1)[0]
            url = source.replace(outer, fs.unstrip_protocol(path), 1) if MAGIC & set(outer) else source
            real = os.path.realpath(path) if "file" in _protocols(fs) else url
            if real in taken:
                twin = f" (as {taken[real]})" if taken[real] != url else ""
                raise SourceError(f"dataset {dataset.name}: {url} is found twice{twin}; its rows would be there twice")
            taken[real] = url
            files.append(SourceFile(url, fs, path, _format(dataset, path), dataset.compression, dataset))
    if (key := dataset.idle_key({file.format for file in files})) is not None:
        kinds = ", ".join(sorted({file.format for file in files}))
        raise SourceError(f"dataset {dataset.name}: `{key}` means nothing to {kinds}; remove it, or correct `format:`")
    return Found(files, warnings)


def _protocols(fs: fsspec.AbstractFileSystem) -> tuple[str, ...]:
    return (fs.protocol,) if isinstance(fs.protocol, str) else tuple(fs.protocol)


def _matches(source: str, dataset: SourceSpec, where: str) -> tuple[fsspec.AbstractFileSystem, list[str]]:
    options = dict(dataset.storage_options)
    archive = source.split("::")[1].lower() if source.startswith("tar://") and "::" in source else ""
    if (kind := next((kind for suffix, kind in TARS.items() if archive.endswith(suffix)), None)) is not None:
        options.setdefault("tar", {"compression": kind})
    try:
        fs, _, paths = get_fs_token_paths(source, mode="rb", storage_options=options, expand=True)
        if not paths:
            raise SourceError(f"{where}: no file matches")
        for path in paths:
            if fs.isfile(path):
                continue
            if fs.isdir(path):
                raise SourceError(f"{where}: {path} is a folder: add /* or a file's name")
            if "file" in _protocols(fs) and os.path.islink(path):  # noqa: PTH114
                target = os.readlink(path)  # noqa: PTH115
                raise SourceError(f"{where}: {path} is a link to {target}, and there is no such file; remove the link")
            raise SourceError(f"{where}: {path}: there is no such file")
    except SourceError:
        raise
    except FileNotFoundError as error:
        raise SourceError(f"{where} does not exist") from error
    except ImportError as error:
        raise SourceError(f"{where}: {told(error)}") from error
    except Exception as error:  # each of fsspec's many libraries has its own
        why = " ".join(str(error).split())
        raise SourceError(f"{where} cannot be opened: {type(error).__name__}: {why}") from error
    return fs, list(paths)


def _is_hidden(fs: fsspec.AbstractFileSystem, source: str, path: str) -> bool:
    """A name below the pattern's first wildcard is hidden, unless the pattern itself names it so."""
    parts = source.split("::", 1)[0].split("/")
    first = next((at for at, part in enumerate(parts) if MAGIC & set(part)), len(parts))
    # What lies before the wildcard was named by hand: /home/me/.cache/data/*.csv is no hidden place.
    base = str(fs._strip_protocol("/".join(parts[:first]) + "/" if first else "")).rstrip("/")
    below = path[len(base) :] if path.startswith(base) else path
    asked = [part for part in parts[first:] if not part.startswith("*")]
    return any(
        any(fnmatch.fnmatchcase(name, hidden) for hidden in HIDDEN)
        and not any(fnmatch.fnmatchcase(name, part) for part in asked)
        for name in below.strip("/").split("/")
    )


def _name(path: str) -> str:
    return path.lower().split("?")[0] if "://" in path else path.lower()


def _format(dataset: SourceSpec, path: str) -> Format:
    if dataset.format is not None:
        return dataset.format
    name = _name(path)
    for suffix in COMPRESSIONS:
        name = name.removesuffix(suffix)
    for suffix, known in SUFFIXES.items():
        if name.endswith(suffix):
            return known
    if name.endswith(".zip") or any(path.lower().endswith(tar) for tar in (*TARS, ".tar")):
        kind = "zip" if name.endswith(".zip") else "tar"
        raise SourceError(f"dataset {dataset.name}: {path} is an archive; name the file in it: {kind}://FILE::{path}")
    raise SourceError(f"dataset {dataset.name}: the format of {path} is not clear from its name; set `format:`")
