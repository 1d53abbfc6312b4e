"""How a source file is cut into ranges, each of which can be read without the others, and how one is read."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Literal

import pyarrow.parquet as pq
from fsspec.archive import AbstractArchiveFileSystem

from embed_worker.steps.opening import HEAD, as_utf8, check_head, head_of
from embed_worker.steps.readers import base, jsonl
from embed_worker.steps.records import damage_told, packing_of_stored, parquet_of
from embed_worker.steps.source import SourceFile

RANGE_BYTES = 64 << 20
"""Of JSON Lines: the ranges' borders are its multiples, so that a file that grows keeps all but its last range."""
GROUPS_BYTES = 128 << 20
"""Of Parquet, unpacked."""


@dataclass(frozen=True)
class Range:
    """Some of a file."""

    kind: Literal["lines", "groups", "whole"]
    start: int = 0
    """First byte in which a line may begin, or first row group."""
    end: int = 0
    first: bool = True
    """Of its file: its start is known to begin a line."""


@dataclass(frozen=True)
class Cut:
    """A file as it is going to be read."""

    ranges: list[Range]
    content: str
    """What tells its bytes from all others; empty where each range is told by its own."""
    bytes: int


def cut(file: SourceFile) -> Cut:
    """Looks at the head of a file, or at Parquet's footer, and at all of it where its store has no tags.

    Raises SourceError where the file is no data of ours.
    """
    with damage_told(file):
        size = int(file.fs.info(file.path).get("size") or 0)
        if file.format == "jsonl" and (start := _lines_start(file)) is not None:
            borders = [start, *range(RANGE_BYTES, size, RANGE_BYTES)]
            ends = [*borders[1:], size]
            spans = [Range("lines", a, b, a == start) for a, b in zip(borders, ends, strict=True)]
            return Cut(spans, "", size)
        if file.format == "parquet" and packing_of_stored(file) is None:
            with parquet_of(file) as opened:
                return Cut(list(_groups(opened)), file.content(), size)
        return Cut([Range("whole")], file.content(), size)


def _lines_start(file: SourceFile) -> int | None:
    """Where the first line begins, in a file whose lines can be read from any place on; None in others."""
    if packing_of_stored(file) is not None or isinstance(file.fs, AbstractArchiveFileSystem):
        return None
    with file.open() as stream:
        if not stream.seekable() or file.fs.info(file.path).get("size") is None:
            return None
        head = head_of(stream)
        check_head(file.url, head, of_text=True)
        text, rest = as_utf8(stream, file.url, head, file.dialect.encoding)
        if rest is not stream or jsonl.line_end(text) != b"\n" or jsonl.are_values(text):
            return None
        return len(head) - len(text)


def _groups(opened: pq.ParquetFile) -> Iterator[Range]:
    start, held = 0, 0
    for at in range(opened.metadata.num_row_groups):
        held += opened.metadata.row_group(at).total_byte_size
        if held >= GROUPS_BYTES:
            yield Range("groups", start, at + 1)
            start, held = at + 1, 0
    if start < opened.metadata.num_row_groups or start == 0:
        yield Range("groups", start, opened.metadata.num_row_groups)


@dataclass(frozen=True)
class Lines:
    """The bytes of a range of lines, and the digest of all of them."""

    data: bytes
    """Cut off within a last line that is too long to be a record."""
    digest: str


def bytes_of(file: SourceFile, span: Range) -> Lines:
    """The lines that begin in a range, whole."""
    with damage_told(file), file.open_stored() as stored:
        if (begin := _line_begin(stored, span)) is None:
            return Lines(b"", hashlib.sha256().hexdigest())
        stored.seek(begin)
        data = bytearray(_read(stored, span.end - begin))
        hasher = hashlib.sha256(data)
        while not data.endswith(b"\n") and (more := _line_rest(stored)):
            hasher.update(more)
            if len(data) <= span.end - begin + base.MAX_LINE:
                data += more
            if more.endswith(b"\n"):
                break
        return Lines(bytes(data), hasher.hexdigest())


def _line_begin(stored: IO[bytes], span: Range) -> int | None:
    """The first byte of a range in which a line begins."""
    if span.first:
        return span.start
    at = span.start - 1
    stored.seek(at)
    while at < span.end - 1 and (block := stored.read(min(HEAD, span.end - 1 - at))):
        if (found := block.find(b"\n")) >= 0:
            return at + found + 1
        at += len(block)
    return None


def _line_rest(stored: IO[bytes]) -> bytes:
    """Up to the line's end, or as much as comes."""
    block = stored.read(1 << 16)
    end = block.find(b"\n")
    return block if end < 0 else block[: end + 1]


def _read(stored: IO[bytes], size: int) -> bytes:
    found = bytearray()
    while len(found) < size and (block := stored.read(size - len(found))):
        found += block
    return bytes(found)
