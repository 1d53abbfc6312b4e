"""Finds the files of a dataset's source and what identifies their content."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import IO, Any

import fsspec
from fsspec.core import get_fs_token_paths
from fsspec.utils import infer_compression

from embed_assets.ingest.errors import SourceError
from embed_assets.spec.pipeline import DatasetSpec, Format

ETAG_KEYS = ("ETag", "etag", "md5Hash", "crc32c", "blob_id")
SUFFIXES: Mapping[str, Format] = {
    ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl", ".csv": "csv", ".tsv": "tsv", ".tab": "tsv",
    ".parquet": "parquet", ".pq": "parquet",
}  # fmt: skip
COMPRESSION_SUFFIXES = (".gz", ".bz2", ".xz", ".zst", ".zstd")
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
        file: IO[bytes] = fsspec.core.OpenFile(self.fs, self.path, "rb", compression=self.compression).open()
        return file

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


def find_files(dataset: DatasetSpec) -> list[SourceFile]:
    """The files in reading order: sources as listed, globs sorted. Raises SourceError where there are none."""
    found = []
    for source in dataset.sources:
        outer = source.split("::", 1)[0]
        try:
            fs, _, paths = get_fs_token_paths(source, mode="rb", storage_options=dataset.storage_options, expand=True)
        except FileNotFoundError as error:
            raise SourceError(f"dataset {dataset.name}: {source} does not exist") from error
        except (ImportError, ValueError) as error:
            raise SourceError(f"dataset {dataset.name}: {source} cannot be opened: {error}") from error
        if not paths:
            raise SourceError(f"dataset {dataset.name}: no file matches {source}")
        for path in sorted(paths):
            if not fs.isfile(path):
                raise SourceError(f"dataset {dataset.name}: {source}: there is no file {path}")
            url = source if len(paths) == 1 else source.replace(outer, fs.unstrip_protocol(path), 1)
            found.append(SourceFile(url, fs, path, _format(dataset, path), _compression(dataset, path)))
    return found


def _compression(dataset: DatasetSpec, path: str) -> str | None:
    if dataset.compression == "none":
        return None
    if dataset.compression != "infer":
        return dataset.compression
    found: str | None = infer_compression(path)
    return "zstd" if path.endswith(".zstd") else found


def _format(dataset: DatasetSpec, path: str) -> Format:
    if dataset.format is not None:
        return dataset.format
    name = path.lower()
    for suffix in COMPRESSION_SUFFIXES:
        name = name.removesuffix(suffix)
    for suffix, known in SUFFIXES.items():
        if name.endswith(suffix):
            return known
    raise SourceError(f"dataset {dataset.name}: the format of {path} is not clear from its name; set `format:`")
