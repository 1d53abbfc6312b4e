"""One source file in, one record after another out, whatever its format. Memory does not grow with the file."""

from collections.abc import Collection, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import IO, TypeVar, cast

import pyarrow as pa
import pyarrow.parquet as pq

from embed_worker.steps.errors import SourceError
from embed_worker.steps.opening import as_utf8, check_head, head_of, packing_of
from embed_worker.steps.readers import jsonl, parquet, separated
from embed_worker.steps.readers.base import BUFFER, Account, Fault, Record, Row
from embed_worker.steps.source import SourceFile

T = TypeVar("T")
__all__ = ["BUFFER", "Account", "Fault", "Record", "Row", "columns_of", "read_records", "read_rows"]


def read_records(file: SourceFile, needed: Collection[str] = ()) -> Iterator[Record]:
    """The records of a file alone."""
    return (row.record for row in read_rows(file, needed, Account()))


def read_rows(file: SourceFile, needed: Collection[str], account: Account) -> Iterator[Row]:
    """All records of a file. Raises SourceError where the file itself is damaged or lacks a needed column."""
    if file.format == "parquet":
        with parquet_of(file) as opened:
            yield from parquet.read(opened, file.url, needed, account, partial(each_told, file))
        return
    with text_of(file) as text:
        if file.format == "jsonl":
            yield from jsonl.read(text.head, text.rest, file.url, needed, file.dialect.json_numbers, account)
        else:
            yield from separated.read(text.head, text.rest, file.url, file.dialect, delimiter_of(file), needed, account)


def delimiter_of(file: SourceFile) -> str:
    return file.dialect.delimiter or ("\t" if file.format == "tsv" else ",")


@dataclass(frozen=True)
class Text:
    """An open file of text in UTF-8."""

    head: bytes
    rest: IO[bytes]
    as_stored: bool
    """It is UTF-8 in the file, too."""


@contextmanager
def text_of(file: SourceFile) -> Iterator[Text]:
    """An open text file. Raises SourceError where it is none; what goes wrong in reading it is told as damage."""
    with damage_told(file):
        stream = file.open()
    with stream:
        told = _told(file, stream)
        with damage_told(file):
            head = head_of(told)
            check_head(file.url, head, of_text=True)
            head, rest = as_utf8(told, file.url, head, file.dialect.encoding)
        as_stored = rest is told
        yield Text(head, told if as_stored else _told(file, rest), as_stored)


def columns_of(file: SourceFile) -> pa.Schema | None:
    """The file's own schema, where its format has one."""
    if file.format != "parquet":
        return None
    with damage_told(file), parquet_of(file) as opened:
        return opened.schema_arrow


@contextmanager
def parquet_of(file: SourceFile) -> Iterator[pq.ParquetFile]:
    """An open Parquet file. Raises SourceError where it is none."""
    with ExitStack() as stack:
        with damage_told(file):
            with file.open() as stream:
                head = stream.read(64)
                if not head.startswith(b"PAR1"):
                    check_head(file.url, head, of_text=False)
                    encrypted = head.startswith(b"PARE")
                    kind = "encrypted Parquet" if encrypted else f"not parquet: it begins with {head[:8]!r}"
                    raise SourceError(f"{file.url} is {kind}; fetch it again, or correct `format:`")
            stored = packing_of_stored(file) is None
            opened = stack.enter_context(parquet.opened(file.open(), seekable=stored))
        yield opened


def packing_of_stored(file: SourceFile) -> str | None:
    """How a file is packed, by its first bytes."""
    if file.compression == "none":
        return None
    with file.open_stored() as stored:
        return packing_of(stored.read(64))


@contextmanager
def damage_told(file: SourceFile) -> Iterator[None]:
    """Whatever goes wrong while a source is read is the source's fault, said in one sentence."""
    try:
        yield
    except (SourceError, GeneratorExit):
        raise
    except (PermissionError, FileNotFoundError) as error:
        raise SourceError(f"{file.url}: {error}") from error
    except Exception as error:  # gzip, bz2, lzma, zip, Arrow and every remote store have errors of their own
        why = " ".join(str(error).split())[:300]
        if "requires too much memory" in why:
            raise SourceError(
                f"{file.url} is packed with a larger zstd window than the "
                f"{file.dialect.decompression_window >> 20:,} MiB that are "
                "allowed; set `decompression_window`, or unpack it"
            ) from error
        packed = "" if file.compression in ("infer", "none") else f", {file.compression}"
        raise SourceError(
            f"{file.url} is cut off, damaged or not {file.format}{packed} ({type(error).__name__}: {why}); "
            "fetch it again, or correct `format:` and `compression:`"
        ) from error


class _Told:
    """A stream whose failures are told as the file's."""

    def __init__(self, file: SourceFile, stream: IO[bytes]) -> None:
        self._file, self._stream = file, stream

    def read(self, size: int = -1) -> bytes:
        with damage_told(self._file):
            return self._stream.read(size)


def _told(file: SourceFile, stream: IO[bytes]) -> IO[bytes]:
    return cast(IO[bytes], _Told(file, stream))


def each_told(file: SourceFile, found: Iterable[T]) -> Iterator[T]:
    """The same, one after another; what goes wrong in getting them is told as damage of the file."""
    rest = iter(found)
    while True:
        with damage_told(file):
            try:
                one = next(rest)
            except StopIteration:
                return
        yield one
