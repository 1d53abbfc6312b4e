"""Lines of CSV and TSV in which no quote and no escape stands → a block."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from embed_worker.steps.columns import MAX_NAMED, ExtraColumns
from embed_worker.steps.fast import flat
from embed_worker.steps.fast.block import Block, Plan, Reject
from embed_worker.steps.fast.flat import Ints, Lines
from embed_worker.steps.fast.table import Records, block_of, passes_coded
from embed_worker.steps.filter import RowFilter
from embed_worker.steps.readers import base
from embed_worker.steps.readers.base import Account
from embed_worker.steps.readers.fields import without_end
from embed_worker.steps.readers.separated import Opening
from embed_worker.steps.spec import SourceSpec
from embed_worker.steps.values import excerpt


def reads(opening: Opening, spec: SourceSpec) -> bool:
    """Files of this opening can be read in blocks, as long as no line has a quote."""
    marks = opening.marks
    one_byte = len(marks.delimiter) == 1 and marks.delimiter.isascii() and not marks.skip_blank
    return one_byte and spec.encoding in (None, "utf-8", "ascii")


def read(data: bytes, opening: Opening, spec: SourceSpec) -> Block | None:
    """The rows of whole lines of a file that `reads` is true of, no line of which before has had a quote. None for
    what only the record reader can tell: quotes, escapes, bytes that are no UTF-8, lines too long."""
    marks, plan = opening.marks, Plan(spec)
    special = [marks.quote, marks.escape_character, '"' if opening.undecided else None]
    if any(mark.encode() in data for mark in special if mark) or len(opening.names) > MAX_NAMED // 2:
        return None
    lines = flat.split(data if data.endswith(b"\n") else data + b"\n")
    if len(lines.starts) and (lines.ends - lines.starts).max() >= base.MAX_LINE - 2:
        return None
    fields = _Fields(lines, marks.delimiter, opening)
    wanted = [name for name in opening.names if name in plan.needed or plan.keeps(name)]
    try:
        columns = {name: fields.column(opening.names.index(name)) for name in wanted}
        faults = [_fault(lines, line, fields, spec) for line in fields.faulty.tolist()]
        data.decode()
    except (pa.ArrowInvalid, UnicodeDecodeError):
        return None
    where = RowFilter(spec.where)
    where.unseen -= set(opening.names)
    passes = np.ones(len(fields.whole), bool)
    for name in where.columns:
        passes &= passes_coded(where, name, columns[name])
    blank, count = int(lines.blank.sum()), len(lines.starts)
    account = Account(total=count, accounted=count, records=count - blank, whole=True)
    if blank:
        account.note("blank lines", blank)

    def record(at: int) -> dict[str, Any]:
        text = lines.text(int(fields.whole[at])).decode().split(marks.delimiter)
        return {n: None if f in opening.nulls else f for n, f in zip(opening.names, text, strict=True)}

    return block_of(
        plan,
        Records(
            texts={name: _series(columns[name]) for name in plan.needed if name in columns},
            where=where,
            passes=passes,
            positions=fields.positions[fields.whole],
            lines=fields.whole + 1,
            record=record,
            columns=lambda extra, at: _others(extra, spec, columns, at, len(passes)),
            names=opening.names,
            account=account,
            faults=faults,
        ),
    )


class _Fields:
    """Where the fields of all lines are."""

    def __init__(self, lines: Lines, delimiter: str, opening: Opening) -> None:
        self._nulls = pa.array(sorted(opening.nulls), pa.string())
        self.width = len(opening.names)
        delimiters = flat.places(lines.array, ord(delimiter))
        ends = flat.places(lines.array, 10)
        counts = np.diff(np.append(np.searchsorted(delimiters, lines.starts), len(delimiters))) + 1
        self.counts = counts
        self.whole = np.flatnonzero(~lines.blank & (counts == self.width))
        self.faulty = np.flatnonzero(~lines.blank & (counts != self.width))
        self.positions: Ints = np.cumsum(~lines.blank) - 1
        self._first = (np.cumsum(counts) - counts)[self.whole]
        stops = np.sort(np.concatenate([delimiters, ends]))
        offsets = pa.py_buffer(np.append(0, stops + 1).astype("<i4").tobytes())
        self._pieces = pa.Array.from_buffers(pa.binary(), len(stops), [None, offsets, pa.py_buffer(lines.data)])
        """Each field with what ends it."""

    def column(self, at: int) -> pa.Array:
        found = pc.binary_slice(self._pieces.take(pa.array(self._first + at)), 0, -1)
        if at == self.width - 1:
            found = pc.if_else(pc.ends_with(found, b"\r"), pc.binary_slice(found, 0, -1), found)
        texts = found.cast(pa.string())
        if not len(self._nulls):
            return texts
        return pc.if_else(pc.is_in(texts, self._nulls), pa.scalar(None, pa.string()), texts)


def _fault(lines: Lines, line: int, fields: _Fields, spec: SourceSpec) -> Reject:
    named = "`columns` names" if spec.header == "none" else "the header has"
    wrong = f"{fields.counts[line]} fields, {named} {fields.width}"
    shown = excerpt(without_end(lines.text(line).decode()))
    return Reject(int(fields.positions[line]), line + 1, None, "wrong number of fields", wrong, shown, False)


def _series(column: pa.Array) -> Any:
    import polars as pl

    return pl.Series(column, dtype=pl.String)


def _others(
    extra: ExtraColumns, spec: SourceSpec, columns: dict[str, pa.Array], at: Ints, size: int
) -> dict[str, pa.Array]:
    found: dict[str, pa.Array] = {}
    for name, column in columns.items():
        if not len(at) or (lake_name := extra.name_of(name)) is None:
            continue
        if len(at) < size:
            column = column.take(pa.array(at))
        extra.count(lake_name, len(column) - column.null_count)
        wanted = spec.kept(name) or "any"
        if wanted not in ("any", "string"):
            found[lake_name] = extra.column(lake_name, column.to_pylist(), wanted)
        else:
            found[lake_name] = pa.nulls(len(column)) if wanted == "any" and column.null_count == len(column) else column
    return found
