"""Records whose columns are all there at once → a block."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from embed_worker.steps.columns import ExtraColumns
from embed_worker.steps.fast.block import Block, Plan, Reject, own_table
from embed_worker.steps.fast.flat import Bools, Ints
from embed_worker.steps.fast.rendered import REASONS, reasons, rendered
from embed_worker.steps.filter import RowFilter
from embed_worker.steps.judge import shown
from embed_worker.steps.readers.base import Account

if TYPE_CHECKING:
    import polars as pl


@dataclass
class Records:
    """What a format gives: its readable records in their order, and its faults."""

    texts: dict[str, "pl.Series"]
    """Of the columns that templates name."""
    where: RowFilter
    passes: Bools
    positions: Ints
    lines: Ints
    """Of each record, in the block."""
    record: Callable[[int], dict[str, Any] | None]
    """A record as its reader gives it; None where it cannot."""
    columns: Callable[[ExtraColumns, Ints], dict[str, pa.Array]]
    """The other columns of some records."""
    names: list[str]
    account: Account
    faults: list[Reject] = field(default_factory=list)


def block_of(plan: Plan, records: Records) -> Block | None:
    """The rows of records; None where one to be set aside cannot be shown."""
    import polars as pl

    spec, size = plan.spec, len(records.passes)
    at = np.flatnonzero(records.passes)
    texts_of = records.texts
    if len(at) < size:
        texts_of = {name: one.gather(at) for name, one in texts_of.items()}
    said = rendered(plan.text, texts_of, len(at))
    ids = None if plan.id is None else rendered(plan.id, texts_of, len(at))
    codes = reasons(ids, said, spec.max_text_bytes)
    why = np.array(REASONS, object)[codes]
    rejects = list(records.faults)
    for place in np.flatnonzero(why != "").tolist():
        record = records.record(int(at[place]))
        if record is None:
            return None
        id_ = None if ids is None or why[place] == "no id" else ids[place]
        detail, excerpt = shown(record, why[place], spec.encoding)
        position, line = int(records.positions[at[place]]), int(records.lines[at[place]])
        rejects.append(Reject(position, line, id_, why[place], detail, excerpt, True))
    kept = why == ""
    if not kept.all():
        at, said = at[kept], said.filter(pl.Series(kept))
        ids = None if ids is None else ids.filter(pl.Series(kept))
    extra = ExtraColumns(spec, plan.as_is)
    own, text_bytes = own_table(ids, said, records.positions[at], records.lines[at])
    return Block(
        own=own,
        columns=pa.table(records.columns(extra, at)),
        rejects=sorted(rejects, key=lambda one: one.record),
        records=size + len(records.faults),
        filtered=size - int(records.passes.sum()),
        by_record=0,
        where=records.where,
        account=records.account,
        text_bytes=text_bytes,
        values=extra.values,
        nulled=extra.nulled,
        named=records.names if len(at) else [],
        shows=[],
    )


def passes_coded(where: RowFilter, name: str, column: pa.Array) -> Bools:
    """The rows whose value passes; each different text or integer is asked once, in the order in which they come."""
    coded = column.dictionary_encode()
    codes = coded.indices.fill_null(-1).to_numpy()
    counts = np.bincount(codes[codes >= 0], minlength=len(coded.dictionary))
    pairs = zip(coded.dictionary.to_pylist(), counts.tolist(), strict=True)
    hits = np.array([*(where.has(name, value, count) for value, count in pairs), False])
    found: Bools = hits[codes]
    return found
