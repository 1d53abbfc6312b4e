"""Readers: one source file in, one record after another out. Memory does not grow with the file."""

import csv
import io
import shutil
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from embed_worker.steps.errors import SourceError
from embed_worker.steps.source import SourceFile

MAX_LINE = 64 << 20
"""A longer line is not a record but a damaged file; it is set aside without holding it in memory."""
BUFFER = 1 << 20
BATCH_ROWS, BATCH_BYTES = 4096, 16 << 20
BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Fault:
    """A record that cannot be read, and why."""

    reason: str


Record = dict[str, Any] | Fault


class _LineTooLong(Exception):
    """A line of a CSV file is over MAX_LINE; the rest of it has been skipped."""


def read_records(file: SourceFile, needed: Collection[str] = ()) -> Iterator[Record]:
    """All records of a file. Raises SourceError where the file itself is damaged or lacks a needed column."""
    with _damage(file):
        if file.format == "parquet":
            yield from _parquet(file, needed)
            return
        with file.open() as raw:
            stream = io.BufferedReader(raw, BUFFER)  # type: ignore[arg-type,type-var]
            if file.format == "jsonl":
                yield from _jsonl(stream)
            else:
                yield from _separated(stream, file, "\t" if file.format == "tsv" else ",", needed)


def columns_of(file: SourceFile) -> pa.Schema | None:
    """The file's own schema, where its format has one."""
    if file.format != "parquet":
        return None
    with _damage(file), _parquet_file(file) as parquet:
        return parquet.schema_arrow


@contextmanager
def _damage(file: SourceFile) -> Iterator[None]:
    """Whatever goes wrong while a source is read is the source's fault, said in one sentence."""
    try:
        yield
    except (SourceError, GeneratorExit):
        raise
    except (PermissionError, FileNotFoundError) as error:
        raise SourceError(f"{file.url}: {error}") from error
    except Exception as error:  # gzip, bz2, lzma, zip, Arrow and every remote store have errors of their own
        packed = f", {file.compression}" if file.compression else ""
        raise SourceError(
            f"{file.url} is cut off, damaged or not {file.format}{packed} ({type(error).__name__}: {error}); "
            "fetch it again, or correct `format:` and `compression:`"
        ) from error


def _jsonl(stream: IO[bytes]) -> Iterator[Record]:
    first = True
    while line := stream.readline(MAX_LINE):
        if len(line) >= MAX_LINE and not line.endswith(b"\n"):
            while (rest := stream.readline(MAX_LINE)) and not rest.endswith(b"\n"):
                continue
            yield Fault("line too long")
            continue
        if first:
            line, first = line.removeprefix(BOM), False
        if not line.strip():
            continue
        try:
            value = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            yield Fault(_why_not_json(line, error))
            continue
        yield value if isinstance(value, dict) else Fault("not a JSON object")


def _why_not_json(line: bytes, error: orjson.JSONDecodeError) -> str:
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        return "invalid UTF-8"
    return "lone surrogate" if "surrogate" in str(error) else "malformed JSON"


class _Lines:
    """Lines of bounded length for the CSV reader, which knows no bound itself."""

    def __init__(self, text: io.TextIOWrapper) -> None:
        self._text = text
        self.ended = False

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        line = self._text.readline(MAX_LINE)
        if not line:
            self.ended = True
            raise StopIteration
        if len(line) >= MAX_LINE and not line.endswith(("\n", "\r")):
            while (rest := self._text.readline(MAX_LINE)) and not rest.endswith(("\n", "\r")):
                continue
            raise _LineTooLong
        return line


def _separated(stream: IO[bytes], file: SourceFile, delimiter: str, needed: Collection[str]) -> Iterator[Record]:
    csv.field_size_limit(MAX_LINE)
    lines = _Lines(io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline=""))
    rows = csv.reader(lines, delimiter=delimiter)
    try:
        header = next(rows, None)
    except (csv.Error, _LineTooLong) as error:
        raise SourceError(f"{file.url}: its first line is no header of a {file.format} file") from error
    if header is None:
        return
    if not all(_encodes(name) for name in header):
        raise SourceError(f"{file.url}: its header is not UTF-8; convert the file to UTF-8")
    _check_columns(file, header, needed)
    while True:
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error:
            yield Fault("malformed CSV")
            continue
        except _LineTooLong:
            yield Fault("line too long")
            continue
        if lines.ended:  # the reader asked for more lines in the middle of this row
            raise SourceError(f"{file.url} is cut off or damaged: a quoted field is never closed; fetch it again")
        if not row:
            continue
        if len(row) != len(header):
            yield Fault("wrong number of fields")
        elif not all(field.isascii() or _encodes(field) for field in row):
            yield Fault("invalid UTF-8")
        else:
            yield dict(zip(header, row, strict=True))


@contextmanager
def _parquet_file(file: SourceFile) -> Iterator[pq.ParquetFile]:
    """Parquet is read from its end: a compressed one is unpacked to the scratch disk first."""
    with file.open() as raw:
        if file.compression is None:
            yield pq.ParquetFile(raw)
            return
        with tempfile.TemporaryFile() as unpacked:
            shutil.copyfileobj(raw, unpacked, BUFFER)
            unpacked.seek(0)
            yield pq.ParquetFile(unpacked)


def _parquet(file: SourceFile, needed: Collection[str]) -> Iterator[Record]:
    with _parquet_file(file) as parquet:
        _check_columns(file, parquet.schema_arrow.names, needed)
        about = parquet.metadata
        size = sum(about.row_group(i).total_byte_size for i in range(about.num_row_groups))
        rows = max(1, min(BATCH_ROWS, BATCH_BYTES * max(about.num_rows, 1) // max(size, 1)))
        for batch in parquet.iter_batches(batch_size=rows):
            yield from _rows_of(batch)


def _rows_of(batch: pa.RecordBatch) -> list[Record]:
    rows: list[Record]
    try:
        rows = batch.to_pylist()
        return rows
    except (ValueError, OverflowError) as error:  # one value that Python has no form for
        if batch.num_rows > 1:
            return [row for i in range(batch.num_rows) for row in _rows_of(batch.slice(i, 1))]
        if isinstance(error, UnicodeDecodeError):
            return [Fault("invalid UTF-8")]
        try:
            rows = _to_microseconds(batch).to_pylist()
            return rows
        except (ValueError, OverflowError, pa.ArrowException):
            return [Fault("unreadable value")]


def _to_microseconds(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Python's times end at microseconds."""
    columns = []
    for column in batch.columns:
        kind = column.type
        if pa.types.is_timestamp(kind) and kind.unit == "ns":
            column = column.cast(pa.timestamp("us", kind.tz), safe=False)
        elif kind == pa.time64("ns"):
            column = column.cast(pa.time64("us"), safe=False)
        elif kind == pa.duration("ns"):
            column = column.cast(pa.duration("us"), safe=False)
        columns.append(column)
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names)


def _check_columns(file: SourceFile, names: list[str], needed: Collection[str]) -> None:
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise SourceError(f"{file.url}: column {twice[0]!r} is there twice")
    if missing := [name for name in needed if name not in names]:
        raise SourceError(f"{file.url} has no column {missing[0]!r}; it has {', '.join(sorted(names))}")


def _encodes(field: str) -> bool:
    try:
        field.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
