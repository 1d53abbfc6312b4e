"""A range of a source file → its rows, its rejects and what was counted. The one seam for faster ways of parsing."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field

import pyarrow as pa

from embed_worker.lake.snapshots import Account, ColumnFigures, Filtered, FirstReject, SeenInJson
from embed_worker.steps.columns import ExtraColumns
from embed_worker.steps.filter import RowFilter
from embed_worker.steps.ranges import Range, rows_of
from embed_worker.steps.readers import base
from embed_worker.steps.readers.base import Fault, Row
from embed_worker.steps.readers.parquet import UNREADABLE
from embed_worker.steps.seen import SeenColumns
from embed_worker.steps.source import SourceFile
from embed_worker.steps.spec import SourceSpec
from embed_worker.steps.template import Template
from embed_worker.steps.types import ColumnType
from embed_worker.steps.values import excerpt, json_text, storable, why_not_storable
from embed_worker.steps.writers import REJECTS_SCHEMA, Gathered, types_of

PART_BYTES = 128 << 20
"""Of a part in memory; a range that holds more becomes several."""
PART_REJECTS = 500_000
HOPELESS = 100_000
"""Records after which the reading of a source ends where not one could be used."""
FIRST = 3


@dataclass(frozen=True)
class Window:
    """Of the records that the filter keeps: how many are passed over, and how many are taken after them."""

    skip: int = 0
    take: int | None = None


WHOLE = Window()


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


def parse(
    spec: SourceSpec, file: SourceFile, span: Range, data: bytes, window: Window, *, give_up: bool = False
) -> Iterator[Parsed]:
    """The parts of a range, one in memory at a time. `data`: the bytes of a range of lines. `give_up`: ends after
    HOPELESS records where none could be used."""
    yield from _Careful(spec, file, window, give_up).parts(span, data)


class _Careful:
    """Record by record, in Python: this decides what is right."""

    def __init__(self, spec: SourceSpec, file: SourceFile, window: Window, give_up: bool) -> None:
        self._spec, self._file, self._window, self._give_up = spec, file, window, give_up
        self._text = Template(spec.text)
        self._id = Template(spec.id) if spec.id else None
        used = {t.columns[0] for t in (self._text, self._id) if t and t.is_one_column}
        self._as_is = used & {"text", "id"}  # those are stored under their own names
        self._needed = [*self._text.columns, *(self._id.columns if self._id else []), *spec.where]
        self._begin()

    def _begin(self) -> None:
        """A new part."""
        self._where = RowFilter(self._spec.where)
        self._seen = SeenColumns(self._text.columns, self._id.columns if self._id else [])
        self._extra = ExtraColumns(self._spec, self._as_is)
        self._rows = Gathered(self._extra, has_ids=self._id is not None)
        self._rejects: list[tuple[int, str | None, str, int, str, str]] = []
        self._read = self._filtered = self._outside = 0

    def parts(self, span: Range, data: bytes) -> Iterator[Parsed]:
        account = base.Account()
        passed = taken = 0
        cut = False
        for row in rows_of(self._file, span, data, self._needed, account):
            if self._rows.bytes >= PART_BYTES or len(self._rejects) >= PART_REJECTS:
                yield self._end(last=False, cut=False)
                self._begin()
            place = self._read
            self._read += 1
            if isinstance(row.record, dict):
                self._seen.look(row.record)
                if not self._where(row.record):
                    self._filtered += 1
                    continue
            if passed < self._window.skip:
                passed += 1
                self._outside += 1
                continue
            taken += 1
            if (fault := self._take(place, row)) is not None:
                self._set_aside(place, row, *fault)
            if taken == self._window.take:
                cut = True
                break
            if self._give_up and taken == HOPELESS and not self._rows.rows:
                break
        part = self._end(last=True, cut=cut)
        part.account = Account(**asdict(account))
        yield part

    def _take(self, place: int, row: Row) -> tuple[str | None, str] | None:
        """Keeps a row, or says as (id, reason) why the record gives none."""
        record = row.record
        if isinstance(record, Fault):
            return None, record.reason
        id_ = "" if self._id is None else self._id.render(record)
        text = self._text.render(record)
        if self._id is not None:
            if id_ is None or not id_.strip():
                return None, "no id"
            if not storable(id_):
                return id_.encode("ascii", "backslashreplace").decode(), why_not_storable(id_)
        if text is None:
            return id_, "null text"
        if not text.strip():
            return id_, "blank text" if text else "empty text"
        if not storable(text):
            return id_, why_not_storable(text)
        size = len(text) if text.isascii() else len(text.encode())
        if size > self._spec.max_text_bytes:
            return id_, "text too long"
        self._rows.add(id_ or "", text, size, place, row)
        return None

    def _set_aside(self, place: int, row: Row, id_: str | None, reason: str) -> None:
        record = row.record
        if isinstance(record, Fault):
            detail, shown = record.detail, record.excerpt
        else:
            detail, shown = "", excerpt(json_text({n: v for n, v in record.items() if v is not UNREADABLE}) or "")
            if reason == "invalid UTF-8":
                encoding = self._spec.encoding
                detail = f"not {encoding}" if encoding else "set `encoding:`, such as cp1252"
        self._rejects.append((place, id_, reason, row.line, detail, shown))

    def _end(self, *, last: bool, cut: bool) -> Parsed:
        rows, extra = self._rows, self._extra
        rows.flush()
        types = types_of(rows.tables, has_ids=self._id is not None)
        by_reason: dict[str, int] = {}
        for _, _, reason, *_ in self._rejects:
            by_reason[reason] = by_reason.get(reason, 0) + 1
        columns = [list(values) for values in zip(*self._rejects, strict=True)] or [[] for _ in REJECTS_SCHEMA]
        return Parsed(
            tables=rows.tables,
            types=types,
            rejects=pa.table(columns, schema=REJECTS_SCHEMA),
            first_rejects=[
                FirstReject(line=line, reason=reason, detail=detail, excerpt=shown)
                for _, _, reason, line, detail, shown in self._rejects[:FIRST]
            ],
            read=self._read,
            rows=rows.rows,
            text_bytes=rows.text_bytes,
            rejects_by_reason=by_reason,
            filtered=self._filtered,
            outside=self._outside,
            columns={
                name: ColumnFigures(
                    type=str(kind.type), values=extra.values.get(name, 0), nulled=extra.nulled.get(name, 0),
                )
                for name, kind in types.items()
            },
            where=self._where.met,
            seen=self._seen.state,
            never_seen=extra.never_seen(),
            digest=str(rows.digest) if self._id is not None else None,
            last=last,
            cut=cut,
        )  # fmt: skip
