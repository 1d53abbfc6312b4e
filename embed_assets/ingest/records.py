"""Readers: one source file in, one record after another out. Memory does not grow with the file."""

import csv
import io
import lzma
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from embed_assets.ingest.errors import SourceError
from embed_assets.ingest.source import SourceFile

MAX_LINE = 64 << 20
"""A longer line is not a record but a damaged file; it is set aside without holding it in memory."""
BUFFER = 1 << 20


@dataclass(frozen=True, slots=True)
class Fault:
    """A record that cannot be read, and why."""

    reason: str


Record = dict[str, Any] | Fault


def read_records(file: SourceFile) -> Iterator[Record]:
    """All records of a file. Raises SourceError where the file itself is damaged."""
    try:
        if file.format == "parquet":
            yield from _parquet(file)
            return
        with file.open() as raw:
            stream = io.BufferedReader(raw, BUFFER)  # type: ignore[arg-type,type-var]
            if file.format == "jsonl":
                yield from _jsonl(stream)
            else:
                yield from _separated(stream, file, "\t" if file.format == "tsv" else ",")
    except (EOFError, zlib.error, lzma.LZMAError) as error:
        raise SourceError(f"{file.url} is cut off or damaged ({error}); fetch it again") from error
    except (pa.ArrowInvalid, OSError) as error:
        if isinstance(error, PermissionError | FileNotFoundError):
            raise SourceError(f"{file.url}: {error}") from error
        raise SourceError(
            f"{file.url} cannot be read as {file.format} ({error}); fetch it again, or set `format:`"
        ) from error


def columns_of(file: SourceFile) -> pa.Schema | None:
    """The file's own schema, where its format has one."""
    if file.format != "parquet":
        return None
    try:
        with file.open() as raw:
            return pq.ParquetFile(raw).schema_arrow
    except (pa.ArrowInvalid, OSError) as error:
        raise SourceError(f"{file.url} is not a whole Parquet file ({error}); fetch it again") from error


def _jsonl(stream: IO[bytes]) -> Iterator[Record]:
    while line := stream.readline(MAX_LINE):
        if len(line) >= MAX_LINE and not line.endswith(b"\n"):
            while (rest := stream.readline(MAX_LINE)) and not rest.endswith(b"\n"):
                continue
            yield Fault("line too long")
            continue
        if not line.strip():
            continue
        try:
            value = orjson.loads(line)
        except orjson.JSONDecodeError:
            yield Fault("malformed JSON" if _is_utf8(line) else "invalid UTF-8")
            continue
        yield value if isinstance(value, dict) else Fault("not a JSON object")


def _separated(stream: IO[bytes], file: SourceFile, delimiter: str) -> Iterator[Record]:
    csv.field_size_limit(MAX_LINE)
    text = io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline="")
    rows = csv.reader(text, delimiter=delimiter)
    header = next(rows, None)
    if header is None:
        return
    if twice := sorted({name for name in header if header.count(name) > 1}):
        raise SourceError(f"{file.url}: column {twice[0]!r} is there twice in the header")
    while True:
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error:
            yield Fault("malformed CSV")
            continue
        if not row:
            continue
        if len(row) != len(header):
            yield Fault("wrong number of fields")
        elif not all(field.isascii() or _encodes(field) for field in row):
            yield Fault("invalid UTF-8")
        else:
            yield dict(zip(header, row, strict=True))


def _parquet(file: SourceFile) -> Iterator[Record]:
    with file.open() as raw:
        for batch in pq.ParquetFile(raw).iter_batches(batch_size=4096):
            try:
                yield from batch.to_pylist()
            except UnicodeDecodeError:
                for i in range(batch.num_rows):
                    try:
                        yield from batch.slice(i, 1).to_pylist()
                    except UnicodeDecodeError:
                        yield Fault("invalid UTF-8")


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _encodes(field: str) -> bool:
    try:
        field.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
