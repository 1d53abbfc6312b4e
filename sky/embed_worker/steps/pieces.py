"""A range as the pieces that are read together: blocks for the fast readers, and what is for the careful ones alone."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from typing import IO

from embed_worker.steps.fast import block as blocks
from embed_worker.steps.fast import jsonl as fast_jsonl
from embed_worker.steps.fast.block import Block, Plan
from embed_worker.steps.opening import Unpacked, as_utf8, check_head, head_of
from embed_worker.steps.ranges import Range
from embed_worker.steps.readers import base, jsonl, parquet
from embed_worker.steps.readers.base import Account, Row
from embed_worker.steps.records import damage_told, parquet_of, read_rows
from embed_worker.steps.source import SourceFile


@dataclass(frozen=True)
class Piece:
    """Records that follow one another."""

    careful: Callable[[Account], Iterator[Row]]
    """Reads them one by one; the account is the piece's own, as are the lines."""
    block: Block | None = None
    """The same, read at once; None where only the careful reader can tell."""
    endless: bool = False
    """It may be of any size."""


def pieces_of(plan: Plan, file: SourceFile, span: Range, data: bytes) -> Iterator[Piece]:
    """The pieces of a range, one after another. `data`: of a range of lines."""
    with damage_told(file):
        if span.kind == "lines":
            for at, end in _blocks(data):
                yield _of_lines(plan, data[at:end])
            return
        if span.kind == "groups":
            yield Piece(partial(_groups, plan, file, span), endless=True)
            return
        if file.format == "jsonl":
            with file.open() as stream:
                head = head_of(stream)
                check_head(file.url, head, of_text=True)
                head, rest = as_utf8(stream, file.url, head, file.dialect.encoding)
                if rest is stream and fast_jsonl.reads(head, plan.spec):
                    yield from _streamed(plan, file, head, rest)
                    return
    yield Piece(partial(read_rows, file, plan.needed), endless=True)


def _blocks(data: bytes) -> Iterator[tuple[int, int]]:
    at = 0
    while at < len(data):
        end = data.find(b"\n", min(at + blocks.BLOCK_BYTES, len(data)) - 1) + 1 or len(data)
        yield at, end
        at = end


def _of_lines(plan: Plan, data: bytes) -> Piece:
    return Piece(partial(_lines, plan, Unpacked(b"", BytesIO(data))), fast_jsonl.read(data, plan.spec))


def _lines(plan: Plan, stream: Unpacked, account: Account) -> Iterator[Row]:
    return jsonl.read_lines(stream, b"\n", plan.needed, plan.spec.json_numbers, account)


def _streamed(plan: Plan, file: SourceFile, head: bytes, rest: IO[bytes]) -> Iterator[Piece]:
    """Lines of a stream, about BLOCK_BYTES at a time; from a line on that is too long, the careful reader goes on."""
    held = head
    while True:
        while len(held) < blocks.BLOCK_BYTES and (more := rest.read(blocks.BLOCK_BYTES - len(held))):
            held += more
        if not held:
            return
        end = held.find(b"\n", blocks.BLOCK_BYTES - 1) + 1
        while not end and (more := rest.read(base.BUFFER)):
            held += more
            end = held.find(b"\n", len(held) - len(more)) + 1
            if not end and len(held) > base.MAX_LINE + blocks.BLOCK_BYTES:
                yield Piece(partial(_rest, plan, file, Unpacked(held, rest)), endless=True)
                return
        end = end or len(held)
        yield _of_lines(plan, held[:end])
        held = held[end:]


def _rest(plan: Plan, file: SourceFile, stream: Unpacked, account: Account) -> Iterator[Row]:
    with damage_told(file):
        yield from _lines(plan, stream, account)


def _groups(plan: Plan, file: SourceFile, span: Range, account: Account) -> Iterator[Row]:
    with damage_told(file), parquet_of(file) as opened:
        yield from parquet.read(opened, file.url, plan.needed, account, range(span.start, span.end))
