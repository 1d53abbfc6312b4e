"""A block of JSON Lines → its rows. Flat lines are read all at once; the others, record by record as ever."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from embed_worker.steps.fast import flat, slices
from embed_worker.steps.fast.block import Block, Plan, Reject, own_table
from embed_worker.steps.fast.deep import said
from embed_worker.steps.fast.flat import DEEP, NULL, NUMBER, Bools, Ints
from embed_worker.steps.fast.json_columns import columns_of
from embed_worker.steps.fast.json_parser import Parsed, parsed
from embed_worker.steps.fast.rendered import REASONS, reasons, rendered
from embed_worker.steps.filter import RowFilter
from embed_worker.steps.judge import shown, why_not
from embed_worker.steps.readers import base
from embed_worker.steps.readers.base import Account, Fault, Record
from embed_worker.steps.readers.json_record import parse
from embed_worker.steps.readers.jsonl import are_values
from embed_worker.steps.spec import SourceSpec

UTF8 = (None, "utf-8", "ascii")


def reads(head: bytes, spec: SourceSpec) -> bool:
    """A file of JSON with this head can be read in blocks: a record a line, lines end with a line feed, UTF-8
    without a mark."""
    ends = b"\n" in head or head.count(b"\r") < 2
    begins = head.lstrip().startswith(b"{") and b"\x00" not in head[:4096]
    return spec.encoding in UTF8 and ends and begins and not are_values(head)


def read(data: bytes, spec: SourceSpec) -> Block | None:
    """The rows of whole lines of a file that `reads` is true of; None for a block that only the record reader can
    tell: lines too long, hundreds of keys, `json_numbers: text`."""
    plan = Plan(spec)
    lines = flat.split(data if data.endswith(b"\n") else data + b"\n")
    if spec.json_numbers == "text" or (len(lines.starts) and (lines.ends - lines.starts).max() >= base.MAX_LINE - 2):
        return None
    values = flat.values_by_key(lines)
    if values is None:
        return None
    values = flat.keep_flat(lines, values)
    for name, one in values.items():
        if name in plan.needed or plan.keeps(name):
            numbers = one.of(one.kinds == NUMBER)
            plain = slices.plain_numbers(lines.array, numbers, as_text=spec.kept(name) == "string")
            lines.flat[numbers.lines[~plain]] = False
        deep = one.of(one.kinds == DEEP)
        for line, start, end in zip(deep.lines, deep.starts, slices.ends_of(lines.array, deep), strict=True):
            text = said(data[start:end])
            if text is None:
                lines.flat[line] = False
            else:
                one.deep[int(line)] = text
    found = parsed(lines, flat.keep_flat(lines, values), plan)
    return None if found is None else _Reading(plan, found, data).block()


@dataclass
class _Odd:
    """A line that is read by itself."""

    line: int
    record: Record


class _Reading:
    def __init__(self, plan: Plan, found: Parsed, data: bytes) -> None:
        self.plan, self.found, self.lines, self.values = plan, found, found.lines, found.values
        self._data = data
        self._account = Account(total=len(self.lines.starts), accounted=len(self.lines.starts), whole=True)
        self._odd: list[_Odd] = []
        self._read_odd()
        self.where = RowFilter(plan.spec.where)
        self._rejects: list[Reject] = []

    def block(self) -> Block | None:
        import polars as pl

        passed_flat, odd = self._filter()
        filtered = self._account.records - len(passed_flat) - len(odd)
        plan, found = self.plan, self.found
        whole = len(passed_flat) == len(found.flat_lines)
        texts_of = {name: found.texts(name) for name in plan.needed if name in self.values}
        if not whole:
            texts_of = {name: one.gather(passed_flat) for name, one in texts_of.items()}
        texts = rendered(plan.text, texts_of, len(passed_flat))
        ids = None if plan.id is None else rendered(plan.id, texts_of, len(passed_flat))
        codes = reasons(ids, texts, plan.spec.max_text_bytes)
        at = found.flat_lines[passed_flat]
        for place in np.flatnonzero(codes):
            id_ = None if ids is None or codes[place] == 1 else ids[int(place)]
            self._set_aside(int(at[place]), id_, REASONS[codes[place]])
        sound = codes == 0
        if not sound.all():
            at, texts = at[sound], texts.filter(pl.Series(sound))
            ids = None if ids is None else ids.filter(pl.Series(sound))
        odd_rows = self._judge(odd)
        if odd_rows:
            at = np.concatenate([at, [one.line for one, _, _ in odd_rows]])
            order = np.argsort(at)
            at = at[order]
            texts = pl.concat([texts, pl.Series("rendered", [text for _, _, text in odd_rows], pl.String)])[order]
            if ids is not None:
                ids = pl.concat([ids, pl.Series("rendered", [id_ for _, id_, _ in odd_rows], pl.String)])[order]
        kept = np.zeros(len(self.lines.starts), bool)
        kept[at] = True
        made = columns_of(
            plan,
            found,
            kept,
            {one.line: one.record for one, _, _ in odd_rows if kept[one.line] and isinstance(one.record, dict)},
        )
        if made is None:
            return None
        columns, extra, named = made
        own, text_bytes = own_table(ids, texts, self.record_of[at], at + 1)
        return Block(
            own=own,
            columns=columns,
            rejects=sorted(self._rejects, key=lambda one: one.record),
            records=self._account.records,
            filtered=filtered,
            by_record=len(self._odd),
            where=self.where,
            account=self._account,
            text_bytes=text_bytes,
            values=extra.values,
            nulled=extra.nulled,
            named=named,
            shows=self._shows(),
        )

    def _read_odd(self) -> None:
        blank = self.lines.blank.copy()
        for line in np.flatnonzero(~blank & ~self.lines.flat).tolist():
            if self._line(line).strip():
                self._odd.append(_Odd(line, self._record(line)))
            else:
                blank[line] = True
        if blank.any():
            self._account.note("blank lines", int(blank.sum()))
        self._account.records = int((~blank).sum())
        self.record_of = np.cumsum(~blank) - 1

    def _record(self, line: int) -> Record:
        text = self._line(line).lstrip(b"\x1e")  # with which RFC 7464 begins a record
        return parse(text, self.plan.needed, self.plan.spec.json_numbers)

    def _line(self, line: int) -> bytes:
        """With its end, as the record reader gets it."""
        starts = self.lines.starts
        return self._data[starts[line] : starts[line + 1] if line + 1 < len(starts) else None]

    # -- which records ----------------------------------------------------------------------------------------

    def _filter(self) -> tuple[Ints, list[_Odd]]:
        """Which of the flat lines and of the others `where` lets pass; faults pass."""
        flat_lines = self.found.flat_lines
        passes = np.ones(len(flat_lines), bool)
        odd = {one.line: True for one in self._odd}
        self.where.unseen -= self.values.keys()
        records = {one.line: one.record for one in self._odd if not isinstance(one.record, Fault)}
        for record in records.values():
            self.where.unseen -= record.keys()
        for name in self.where.columns:
            flat_hits, odd_hits = self._column_passes(name, records)
            passes &= flat_hits
            for line in records:
                odd[line] &= odd_hits.get(line, False)
        return np.flatnonzero(passes), [one for one in self._odd if odd[one.line]]

    def _column_passes(self, name: str, odd: dict[int, dict[str, Any]]) -> tuple[Bools, dict[int, bool]]:
        """Each different value is asked once, in the order in which they come."""
        seen: list[tuple[int, Any, int, int]] = [(line, record.get(name), 1, -1) for line, record in odd.items()]
        one = self.values.get(name)
        codes = np.zeros(0, np.int64)
        if one is not None:
            one = one.of(one.kinds != NULL)
            coded = slices.written(self.lines.array, one).dictionary_encode()
            codes = coded.indices.to_numpy()
            counts, firsts = np.bincount(codes), np.unique(codes, return_index=True)[1]
            for code, text in enumerate(coded.dictionary.to_pylist()):
                record = parse(b'{"x":%s}' % text.encode(), ("x",))
                assert isinstance(record, dict)
                seen.append((int(one.lines[firsts[code]]), record["x"], int(counts[code]), code))
        hits, odd_hits = np.zeros(int(codes.max()) + 1 if len(codes) else 0, bool), {}
        for line, value, count, code in sorted(seen, key=lambda each: each[0]):
            passed = self.where.has(name, value, count)
            if code < 0:
                odd_hits[line] = passed
            else:
                hits[code] = passed
        found = np.zeros(len(self.found.flat_lines), bool)
        if one is not None:
            found[self.found.place_of[one.lines]] = hits[codes]
        return found, odd_hits

    def _judge(self, odd: list[_Odd]) -> list[tuple[_Odd, str, str]]:
        """The rows of lines that were read by themselves: ids and texts."""
        rows = []
        for one in odd:
            if isinstance(one.record, Fault):
                self._set_aside(one.line, None, one.record.reason, one.record)
                continue
            id_ = "-" if self.plan.id is None else self.plan.id.render(one.record)
            text = self.plan.text.render(one.record)
            if (why := why_not(id_, text, self.plan.spec.max_text_bytes)) is not None:
                self._set_aside(one.line, why[0] if self.plan.id else None, why[1], one.record)
            else:
                rows.append((one, str(id_), str(text)))
        return rows

    def _set_aside(self, line: int, id_: str | None, reason: str, record: Record | None = None) -> None:
        if record is None:
            record = self._record(line)
        if isinstance(record, Fault):
            detail, excerpt = record.detail, record.excerpt
        else:
            detail, excerpt = shown(record, reason, self.plan.spec.encoding)
        self._rejects.append(
            Reject(int(self.record_of[line]), line + 1, id_, reason, detail, excerpt, isinstance(record, dict))
        )

    def _shows(self) -> list[dict[str, Any]]:
        odd = {one.line: one.record for one in self._odd}
        first = {int(one.lines[0]) for one in self.values.values()}
        found: list[dict[str, Any]] = []
        known: set[str] = set()
        for line in sorted(first | odd.keys()):
            record = odd[line] if line in odd else self._record(line)
            if isinstance(record, dict) and not known >= record.keys():
                known |= record.keys()
                found.append(record)
        return found
