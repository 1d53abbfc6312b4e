"""Finds the files of a dataset's source and what identifies their content."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import IO, Any

import fsspec
import pyarrow as pa
from fsspec.core import get_fs_token_paths

from embed_worker.extras import told
from embed_worker.steps.errors import SourceError
from embed_worker.steps.spec import Format, SourceSpec

ETAG_KEYS = ("ETag", "etag", "md5Hash", "crc32c", "blob_id")
SUFFIXES: Mapping[str, Format] = {
    ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl", ".csv": "csv", ".tsv": "tsv", ".tab": "tsv",
    ".parquet": "parquet", ".pq": "parquet",
}  # fmt: skip
COMPRESSIONS = {".gz": "gzip", ".bz2": "bz2", ".xz": "xz", ".zst": "zstd", ".zstd": "zstd"}
STAMP_KEYS = (*ETAG_KEYS, "size", "mtime", "ino", "LastModified", "last_modified", "updated")
CHUNK = 1 << 20


@dataclass(frozen=True)
class SourceFile:
    """One file of a source."""

    url: str
    fs: fsspec.AbstractFileSystem = field(repr=False, compare=False)
    path: str
    format: Format
    compression: str | None

    def open(self) -> IO[bytes]:
        """The decompressed bytes."""
        if self.compression == "zstd":  # Arrow's: it reads every frame of the file, and notices a cut one
            stored = self.fs.open(self.path, "rb")
            decompressed: IO[bytes] = pa.input_stream(stored, compression="zstd")
            return decompressed
        file: IO[bytes] = fsspec.core.OpenFile(self.fs, self.path, "rb", compression=self.compression).open()
        return file

    def stamp(self) -> dict[str, Any]:
        """What changes when the file does, as far as the store tells without reading it."""
        info = self.fs.info(self.path)
        return {key: str(info[key]) for key in STAMP_KEYS if info.get(key) is not None}

    def identity(self) -> dict[str, Any]:
        """The store's own tag where it has one, else size and sha256 of the stored bytes."""
        info = self.fs.info(self.path)
        for key in ETAG_KEYS:
            if info.get(key):
                return {"url": self.url, "size": info.get("size"), "etag": str(info[key]).strip('"')}
        hasher, size = hashlib.sha256(), 0
        with self.fs.open(self.path, "rb") as file:
            while block := file.read(CHUNK):
                hasher.update(block)
                size += len(block)
        return {"size": size, "sha256": hasher.hexdigest()}


def find_files(dataset: SourceSpec) -> list[SourceFile]:
    """The files in reading order: sources as listed, globs sorted. Raises SourceError where there are none."""
    found = []
    for source in dataset.sources:
        outer = source.split("::", 1)[0]
        where = f"dataset {dataset.name}: {source}"
        try:
            fs, _, paths = get_fs_token_paths(source, mode="rb", storage_options=dataset.storage_options, expand=True)
            if not paths:
                raise SourceError(f"dataset {dataset.name}: no file matches {source}")
            if absent := [path for path in paths if not fs.isfile(path)]:
                what = "is a folder: add /* or a file's name" if fs.isdir(absent[0]) else "there is no such file"
                raise SourceError(f"{where}: {absent[0]} {what}" if "folder" in what else f"{where}: {what}")
        except SourceError:
            raise
        except FileNotFoundError as error:
            raise SourceError(f"{where} does not exist") from error
        except ImportError as error:
            raise SourceError(f"{where}: {told(error)}") from error
        except Exception as error:  # each of fsspec's many libraries has its own
            raise SourceError(f"{where} cannot be opened: {type(error).__name__}: {error}") from error
        for path in sorted(paths):
            url = source if len(paths) == 1 else source.replace(outer, fs.unstrip_protocol(path), 1)
            compression = _compression(dataset, path)
            found.append(SourceFile(url, fs, path, _format(dataset, path), compression))
    return found


def _compression(dataset: SourceSpec, path: str) -> str | None:
    if dataset.compression == "none":
        return None
    if dataset.compression != "infer":
        return dataset.compression
    name = path.lower()
    if name.endswith(".zip"):
        raise SourceError(f"dataset {dataset.name}: {path} is an archive; name the file in it: zip://FILE::{path}")
    return next((kind for suffix, kind in COMPRESSIONS.items() if name.endswith(suffix)), None)


def _format(dataset: SourceSpec, path: str) -> Format:
    if dataset.format is not None:
        return dataset.format
    name = path.lower()
    for suffix in COMPRESSIONS:
        name = name.removesuffix(suffix)
    for suffix, known in SUFFIXES.items():
        if name.endswith(suffix):
            return known
    raise SourceError(f"dataset {dataset.name}: the format of {path} is not clear from its name; set `format:`")
