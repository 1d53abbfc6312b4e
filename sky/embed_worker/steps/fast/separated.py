"""Records of CSV and TSV whose quotes are all in order, and in which no escape stands → a block."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from embed_worker.steps.columns import MAX_NAMED, ExtraColumns
from embed_worker.steps.fast.block import Block, Plan, Reject
from embed_worker.steps.fast.fields import Fields, fields_of
from embed_worker.steps.fast.flat import Ints
from embed_worker.steps.fast.table import Records, block_of, passes_coded
from embed_worker.steps.filter import RowFilter
from embed_worker.steps.readers import base
from embed_worker.steps.readers.base import Account
from embed_worker.steps.readers.separated import Opening
from embed_worker.steps.spec import SourceSpec
from embed_worker.steps.values import excerpt


def reads(opening: Opening, spec: SourceSpec) -> bool:
    """Files of this opening can be read in blocks."""
    marks = opening.marks
    one_byte = len(marks.delimiter) == 1 and marks.delimiter.isascii() and not marks.skip_blank
    return one_byte and spec.encoding in (None, "utf-8", "ascii")


def read(data: bytes, opening: Opening, spec: SourceSpec) -> Block | None:
    """The rows of whole records of a file that `reads` is true of. None for what only the record reader can tell:
    quotes in mid-field or not known to enclose fields, escapes, broken records of several lines, bytes that are no
    UTF-8, records too long."""
    marks, plan, names = opening.marks, Plan(spec), opening.names
    special = [marks.escape_character, *(['\n"', f'{marks.delimiter}"'] if opening.undecided else [])]
    if not opening.proved or not str(marks.quote).isascii():
        special.append(marks.quote)
    if any(mark.encode() in data for mark in special if mark) or len(names) > MAX_NAMED // 2:
        return None
    if opening.undecided and data.startswith(b'"'):
        return None
    fields = fields_of(data if data.endswith(b"\n") else data + b"\n", marks)
    if fields is None or (len(fields.starts) and (fields.ends - fields.starts).max() >= base.MAX_LINE - 2):
        return None
    whole = np.flatnonzero(~fields.blank & (fields.counts == len(names)))
    faulty = np.flatnonzero(~fields.blank & (fields.counts != len(names)))
    if (fields.spans[faulty] > 1).any():
        return None
    wanted = [at for at, name in enumerate(names) if name in plan.needed or plan.keeps(name)]
    nulls = pa.array(sorted(opening.nulls), pa.string())
    columns = {names[at]: _without(nulls, fields.column(whole, at)) for at in wanted}
    where = RowFilter(spec.where)
    where.unseen -= set(names)
    passes = np.ones(len(whole), bool)
    for name in where.columns:
        passes &= passes_coded(where, name, columns[name])
    positions: Ints = np.cumsum(~fields.blank) - 1

    def record(at: int) -> dict[str, Any]:
        text = fields.record(int(whole[at]))
        return {n: None if f in opening.nulls else f for n, f in zip(names, text, strict=True)}

    return block_of(
        plan,
        Records(
            texts={name: _series(columns[name]) for name in plan.needed if name in columns},
            where=where,
            passes=passes,
            positions=positions[whole],
            lines=fields.line[whole] + 1,
            record=record,
            columns=lambda extra, at: _others(extra, spec, columns, at, len(passes)),
            names=names,
            account=_account(fields),
            faults=[_fault(data, fields, at, int(positions[at]), len(names), spec) for at in faulty.tolist()],
        ),
    )


def _account(fields: Fields) -> Account:
    blank = int(fields.blank.sum())
    account = Account(total=fields.lines, accounted=fields.lines, records=len(fields.blank) - blank, whole=True)
    if blank:
        account.note("blank lines", blank)
    if several := int((fields.spans > 1).sum()):
        account.note("records of several lines", several)
    return account


def _fault(data: bytes, fields: Fields, at: int, position: int, width: int, spec: SourceSpec) -> Reject:
    named = "`columns` names" if spec.header == "none" else "the header has"
    wrong = f"{fields.counts[at]} fields, {named} {width}"
    shown = excerpt(data[fields.starts[at] : fields.ends[at]].decode())
    return Reject(position, int(fields.line[at]) + 1, None, "wrong number of fields", wrong, shown, False)


def _without(nulls: pa.StringArray, texts: pa.StringArray) -> pa.StringArray:
    return pc.if_else(pc.is_in(texts, nulls), pa.scalar(None, pa.string()), texts) if len(nulls) else texts


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
