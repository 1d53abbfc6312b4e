"""A part in the making: rows from careful records and from whole blocks, in the order in which they come."""

from dataclasses import asdict, dataclass, field

import pyarrow as pa

from embed_worker.lake.snapshots import Account, ColumnFigures, Filtered, FirstReject, SeenInJson
from embed_worker.steps.columns import ExtraColumns
from embed_worker.steps.fast.block import Block, Plan
from embed_worker.steps.filter import RowFilter
from embed_worker.steps.judge import shown, text_bytes, why_not
from embed_worker.steps.readers import base
from embed_worker.steps.readers.base import Fault, Row
from embed_worker.steps.seen import SeenColumns
from embed_worker.steps.types import ColumnType
from embed_worker.steps.writers import REJECTS_SCHEMA, Gathered, types_of

FIRST = 3


@dataclass
class Parsed:
    """A part, before it is written. Places count from its own first record, lines from the range's first."""

    tables: list[pa.Table]
    """Of `id` where there is a template, `text`, `text_key`, `_record`, `_line`, then the other columns."""
    types: dict[str, ColumnType]
    """Of the other columns."""
    rejects: pa.Table
    """An empty `id` stands for the place, where ids are places."""
    first_rejects: list[FirstReject]
    read: int
    rows: int
    text_bytes: int
    rejects_by_reason: dict[str, int]
    filtered: int
    outside: int
    columns: dict[str, ColumnFigures]
    where: Filtered
    seen: SeenInJson
    never_seen: list[str]
    digest: str | None
    last: bool
    cut: bool
    """The window ended within the range."""
    account: Account = field(default_factory=Account)


class Making:
    """What a part holds so far."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._where = RowFilter(plan.spec.where)
        self._seen = SeenColumns(plan.text.columns, plan.id.columns if plan.id else [])
        self._extra = ExtraColumns(plan.spec, plan.as_is)
        self._gathered = Gathered(self._extra, has_ids=plan.id is not None)
        self._rejects: list[tuple[int, str | None, str, int, str, str]] = []
        self._read = self._filtered = self._outside = 0

    @property
    def rows(self) -> int:
        return self._gathered.rows

    @property
    def rejects(self) -> int:
        return len(self._rejects)

    @property
    def bytes(self) -> int:
        """In memory."""
        return self._gathered.bytes

    # -- record by record -------------------------------------------------------------------------------------

    def passes(self, row: Row) -> bool:
        """Counts a record; whether `where` keeps it."""
        self._read += 1
        if isinstance(row.record, dict):
            self._seen.look(row.record)
            if not self._where(row.record):
                self._filtered += 1
                return False
        return True

    def pass_over(self) -> None:
        """The record that came last is outside the window."""
        self._outside += 1

    def take(self, row: Row, lines: int) -> None:
        """The record that came last gives a row, or is set aside. `lines`: of the range, before `row.line` counts."""
        record, plan, place = row.record, self._plan, self._read - 1
        if isinstance(record, Fault):
            self._rejects.append((place, None, record.reason, lines + row.line, record.detail, record.excerpt))
            return
        id_ = "-" if plan.id is None else plan.id.render(record)
        text = plan.text.render(record)
        if (why := why_not(id_, text, plan.spec.max_text_bytes)) is not None:
            detail, excerpt = shown(record, why[1], plan.spec.encoding)
            self._rejects.append((place, why[0] if plan.id else "", why[1], lines + row.line, detail, excerpt))
            return
        assert id_ is not None and text is not None
        self._gathered.add(id_, text, text_bytes(text), place, lines + row.line, row)

    # -- whole blocks -----------------------------------------------------------------------------------------

    def has_room(self, block: Block, most_rejects: int) -> bool:
        """The block's rows are the same in this part as by themselves."""
        return self._extra.has_room(block.named) and len(self._rejects) + len(block.rejects) < most_rejects

    def add(self, block: Block, lines: int, *, outside: bool = False) -> None:
        """All of a block; `outside` the window: its records are counted only."""
        for record in block.shows:
            self._seen.look(record)
        self._where.add(block.where)
        self._filtered += block.filtered
        if outside:
            self._outside += block.records - block.filtered
        else:
            ids_are_places = self._plan.id is None
            self._rejects += [
                (self._read + one.record, "" if ids_are_places and one.readable else one.id, one.reason,
                 lines + one.line, one.detail, one.excerpt)
                for one in block.rejects
            ]  # fmt: skip
            if block.own.num_rows:
                self._extra.add(block.named, block.values, block.nulled)
                self._gathered.add_block(block, self._read, lines)
        self._read += block.records

    # -- the end ----------------------------------------------------------------------------------------------

    def end(self, *, last: bool, cut: bool = False, account: base.Account | None = None) -> Parsed:
        rows, extra, has_ids = self._gathered, self._extra, self._plan.id is not None
        rows.flush()
        types = types_of(rows.tables, has_ids=has_ids)
        by_reason: dict[str, int] = {}
        for _, _, reason, *_ in self._rejects:
            by_reason[reason] = by_reason.get(reason, 0) + 1
        columns = [list(values) for values in zip(*self._rejects, strict=True)] or [[] for _ in REJECTS_SCHEMA]
        return Parsed(
            tables=rows.tables,
            types=types,
            rejects=pa.table(columns, schema=REJECTS_SCHEMA),
            first_rejects=[
                FirstReject(line=line, reason=reason, detail=detail, excerpt=excerpt)
                for _, _, reason, line, detail, excerpt in self._rejects[:FIRST]
            ],
            read=self._read,
            rows=rows.rows,
            text_bytes=rows.text_bytes,
            rejects_by_reason=by_reason,
            filtered=self._filtered,
            outside=self._outside,
            columns={
                name: ColumnFigures(
                    type=str(kind.type), values=extra.values.get(name, 0), nulled=extra.nulled.get(name, 0)
                )
                for name, kind in types.items()
            },
            where=self._where.met,
            seen=self._seen.state,
            never_seen=extra.never_seen(),
            digest=str(rows.digest) if has_ids else None,
            last=last,
            cut=cut,
            account=Account(**asdict(account)) if account else Account(),
        )
