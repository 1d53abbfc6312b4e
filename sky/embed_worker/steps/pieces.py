"""A range as the pieces that are read together: blocks for the fast readers, and what is for the careful ones alone."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from typing import IO

import pyarrow as pa

from embed_worker.steps.fast import block as blocks
from embed_worker.steps.fast import jsonl as fast_jsonl
from embed_worker.steps.fast import parquet as fast_parquet
from embed_worker.steps.fast import separated as fast_separated
from embed_worker.steps.fast.block import Block, Plan
from embed_worker.steps.opening import Unpacked
from embed_worker.steps.ranges import Range
from embed_worker.steps.readers import base, jsonl, parquet, separated
from embed_worker.steps.readers.base import Account, Row
from embed_worker.steps.records import Text, delimiter_of, each_told, parquet_of, read_rows, text_of
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
    if span.kind == "lines":
        for at, end in _blocks(data):
            yield _of_lines(plan, data[at:end])
    elif file.format == "parquet":
        yield from _of_parquet(plan, file, span)
    else:
        with text_of(file) as text:
            if file.format != "jsonl":
                yield from _of_separated(plan, file, text)
                return
            if text.as_stored and fast_jsonl.reads(text.head, plan.spec):
                yield from _streamed(plan, text.head, text.rest)
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


def _streamed(plan: Plan, head: bytes, rest: IO[bytes]) -> Iterator[Piece]:
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
                yield Piece(partial(_lines, plan, Unpacked(held, rest)), endless=True)
                return
        end = end or len(held)
        yield _of_lines(plan, held[:end])
        held = held[end:]


# -- CSV and TSV ------------------------------------------------------------------------------------------------


def _of_separated(plan: Plan, file: SourceFile, text: Text) -> Iterator[Piece]:
    """The header by itself, then records, about BLOCK_BYTES at a time; what the fast reader refuses, and where it shows
    how fields are quoted, is the careful reader's, which goes on from there."""
    reader = separated.Separated(text.head, text.rest, file.url, file.dialect, delimiter_of(file))
    yield Piece(partial(_header, reader, plan))
    if (opening := reader.opening) is None:
        return
    if not (text.as_stored and reader.in_lines and fast_separated.reads(opening, plan.spec)):
        yield Piece(partial(_records, reader, None), endless=True)
        return
    while True:
        if reader.lines.is_whole:
            opening = reader.opening
            if opening is None or not (data := reader.some(blocks.BLOCK_BYTES, opening.marks.quote)):
                return
            if (block := fast_separated.read(data, opening, plan.spec)) is not None:
                reader.passed()
                yield Piece(partial(_records, reader.again(data), None), block)
                continue
            reader.lines.put_back(data)
        yield Piece(partial(_records, reader, blocks.BLOCK_BYTES))


def _header(reader: separated.Separated, plan: Plan, account: Account) -> Iterator[Row]:
    reader.open(plan.needed, account)
    return iter(())


def _records(reader: separated.Separated, size: int | None, account: Account) -> Iterator[Row]:
    """With lines numbered from here."""
    before = reader.lines.number
    for row in reader.rows(account, size):
        row.line -= before
        yield row


# -- Parquet ----------------------------------------------------------------------------------------------------


def _of_parquet(plan: Plan, file: SourceFile, span: Range) -> Iterator[Piece]:
    with parquet_of(file) as opened:
        names = parquet.names_of(opened, file.url, plan.needed)
        whole = span.kind == "whole"
        groups = range(opened.metadata.num_row_groups) if whole else range(span.start, span.end)
        missing = sum(opened.metadata.row_group(at).num_rows for at in groups)
        held: pa.Table | None = None
        for table in each_told(file, parquet.tables(opened, names, groups)):
            missing -= table.num_rows
            if held is not None:
                yield _of_table(plan, held, 0)
            held = table
        yield _of_table(
            plan, opened.schema_arrow.empty_table().rename_columns(names) if held is None else held, missing
        )


def _of_table(plan: Plan, table: pa.Table, missing: int) -> Piece:
    """`missing`: rows that the footer counts behind these; they are in the account's total alone."""
    if (block := fast_parquet.read(table, plan.spec)) is not None:
        block.account.total += missing
    return Piece(partial(_rows, table, plan, missing), block)


def _rows(table: pa.Table, plan: Plan, missing: int, account: Account) -> Iterator[Row]:
    yield from parquet.rows_of(table, plan.needed)
    account.unit, account.whole = "rows", True
    account.accounted = account.records = table.num_rows
    account.total = table.num_rows + missing
