"""JSON: a record a line, or an array, or objects over several lines. The first megabyte shows which."""

from collections.abc import Collection, Iterator
from io import BytesIO
from typing import IO

import orjson

from embed_worker.steps.errors import SourceError
from embed_worker.steps.opening import Unpacked
from embed_worker.steps.readers.base import Account, Fault, Row
from embed_worker.steps.readers.json_record import parse
from embed_worker.steps.readers.json_values import Values
from embed_worker.steps.readers.lines import Lines


def read(
    head: bytes, rest: IO[bytes], url: str, needed: Collection[str], numbers: str, account: Account
) -> Iterator[Row]:
    end = line_end(head)
    stream = Unpacked(head, rest, end)
    if are_values(head):
        yield from _values(stream, url, needed, numbers, account)
        return
    yield from read_lines(stream, end, needed, numbers, account)


def read_lines(stream: Unpacked, end: bytes, needed: Collection[str], numbers: str, account: Account) -> Iterator[Row]:
    """A record a line, without a look at what the file is."""
    lines = Lines(stream, end)  # type: ignore[arg-type]
    for line in lines:
        account.accounted += 1
        if line is None:
            account.records += 1
            yield Row(Fault("line too long"), lines.number)
        elif not line.strip():
            account.note("blank lines")
        else:
            account.records += 1
            yield Row(parse(line.lstrip(b"\x1e"), needed, numbers), lines.number)  # RFC 7464 begins a record so
    account.total, account.whole = stream.lines, True


def _values(stream: Unpacked, url: str, needed: Collection[str], numbers: str, account: Account) -> Iterator[Row]:
    account.unit = "bytes"
    values = Values(stream, url)  # type: ignore[arg-type]
    for value, line in values:
        account.records += 1
        yield Row(Fault("line too long") if value is None else parse(value, needed, numbers), line)
    account.accounted = values.separators + values.value_bytes
    account.total, account.whole = stream.bytes, True


def line_end(head: bytes) -> bytes:
    """What ends the lines; a classic Mac's files have no line feed."""
    return b"\r" if b"\r" in head and b"\n" not in head and head.count(b"\r") > 1 else b"\n"


def are_values(head: bytes) -> bool:
    """The file is an array, or the first of its lines that is no JSON begins an object that spans several."""
    start = head.lstrip()
    if start[:1] not in (b"[", b"{"):
        return False
    if start[:1] == b"[":
        lines = [line for line in start.split(b"\n", 4)[:3] if line.strip()]
        return not (len(lines) > 1 and _loads(lines[0]) and lines[1].lstrip()[:1] == b"{")
    at = 0
    while at < len(start):
        end = start.find(b"\n", at)
        line = start[at : end if end >= 0 else len(start)]
        if line.strip() and not _loads(line):
            break
        at += len(line) + 1
    try:
        first = next(iter(Values(BytesIO(start[at:]), "")), None)
    except SourceError:
        return False
    if first is None or first[0] is None or not _loads(first[0]):
        return False
    rest = start[at + len(first[0]) :].lstrip(b" \t")
    return b"\n" in first[0] or (at == 0 and rest.removeprefix(b",").lstrip()[:1] in (b"{", b""))


def _loads(text: bytes) -> bool:
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return not isinstance(parse(text, ()), Fault)
    return True
