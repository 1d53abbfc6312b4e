"""Checks of raw_reviews that look at the source: every record is accounted for, and the rows are plausible texts."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from embed_assets.checks.outcome import Check, CheckOutcome
from embed_assets.checks.rows import ROW_CHECKS, RowsView
from embed_worker.lake.snapshots import RawPart
from embed_worker.steps.columns import LINE, RECORD
from embed_worker.steps.rows import rows_of_file, schema_of
from embed_worker.steps.types import ColumnType, common
from embed_worker.steps.values import excerpt

COUNTED = 100_000
"""Different texts whose repetitions are counted at a time."""
ONE_WORD = r"^[^\s\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}]+$"
"""Without a blank, in a script that has blanks between words."""
MOST_SHARE = {"empty": 0.0, "one text": 0.5, "one word": 0.9, "no letter or digit": 0.5, "literal \\n": 0.2}
"""Above this share of the rows, a peculiarity of the texts is no longer plausible."""


@dataclass
class Seen:
    """What the written files hold."""

    rows: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    texts: Counter[str] = field(default_factory=Counter)
    """Repetitions of the most frequent texts; a lower bound where there are very many different ones."""
    values: Counter[str] = field(default_factory=Counter)
    """Values that are not null, by column."""


@dataclass(frozen=True)
class RawView(RowsView):
    """A snapshot: its rows, and what its manifest says of the source."""

    max_rejects: float = field(kw_only=True)
    fresh_hours: float | None = field(default=None, kw_only=True)
    seen: Seen = field(default_factory=Seen, kw_only=True)

    def look(self, path: Path, part: RawPart) -> None:
        parquet = pq.ParquetFile(path)
        for batch in rows_of_file(parquet, part, ["text"]):
            _look_at_texts(self.seen, batch.column("text"))
        for name in parquet.schema_arrow.names:
            if name in self.raw.columns:
                column = pq.read_table(path, columns=[name]).column(0)
                self.seen.values[name] += len(column) - column.null_count


def _look_at_texts(seen: Seen, texts: pa.Array) -> None:
    seen.rows += len(texts)
    trimmed = pc.utf8_trim_whitespace(texts)
    found = {
        "empty": pc.equal(trimmed, ""),
        "one word": pc.match_substring_regex(trimmed, ONE_WORD),
        "no letter or digit": pc.invert(pc.match_substring_regex(trimmed, r"[\pL\pN]")),
        "literal \\n": pc.match_substring(texts, "\\n"),
    }
    for kind, hits in found.items():
        seen.kinds[kind] += pc.sum(hits).as_py() or 0
    for entry in pc.value_counts(texts).to_pylist():
        seen.texts[entry["values"]] += entry["counts"]
    if len(seen.texts) > COUNTED:
        seen.texts = Counter(dict(seen.texts.most_common(COUNTED // 10)))


def all_records_accounted(view: RawView) -> CheckOutcome:
    """The source's lines or records, counted beside the reader, are rows, rejects or filtered: none is lost."""
    raw = view.raw
    records = sum(account.records for account in raw.accounts)
    ends = raw.rows + sum(raw.rejects_by_reason.values()) + raw.filtered + raw.outside
    figures = {"records": records, "rows": raw.rows, "filtered": raw.filtered, "outside_range": raw.outside}
    for account in raw.accounts:
        if account.whole and account.total != account.accounted:
            text = f"{account.url} has {account.total:,} {account.unit}, the reader accounts for {account.accounted:,}"
            return CheckOutcome(False, text, figures)
    notes = Counter[str]()
    for account in raw.accounts:
        notes.update(account.notes)
    rejects = sum(raw.rejects_by_reason.values())
    text = f"{records:,} records: {raw.rows:,} rows, {rejects:,} rejects, {raw.filtered:,} filtered"
    if any(not account.whole for account in raw.accounts):
        text += "; the source was not read to its end, as `rows` says"
    if ends != records:
        text += f": together {ends:,}"
    if len(view.reading.schemas) and view.reading.rows != raw.rows:
        return CheckOutcome(False, f"{text}; {view.reading.rows:,} rows are written", figures)
    return CheckOutcome(ends == records, text, {**figures, "rejects": rejects, **notes})


def rejects_within_limit(view: RawView) -> CheckOutcome:
    """Not more records are set aside than the spec's max_rejects."""
    raw = view.raw
    rejects = sum(raw.rejects_by_reason.values())
    share = rejects / raw.records if raw.records else 0.0
    text = f"{rejects:,} of {raw.records:,} records ({share:.2%}) are set aside; max_rejects is {view.max_rejects:.2%}"
    metadata = {"share": round(share, 6), "by_reason": raw.rejects_by_reason, "first": raw.first_rejects}
    return CheckOutcome(share <= view.max_rejects, text, metadata)


def texts_plausible(view: RawView) -> CheckOutcome:
    r"""The texts look like texts: few are empty, the same, one word, without a letter, or hold a literal \n."""
    assert view.reading is not None
    seen = view.seen
    top = seen.texts.most_common(10)
    kinds = {**seen.kinds, "one text": top[0][1] if top and top[0][1] > 1 else 0}
    shares = {kind: kinds.get(kind, 0) / max(seen.rows, 1) for kind in MOST_SHARE}
    repeated = {excerpt(text, 80): count for text, count in top if count > 1}
    metadata = {"shares": {kind: round(share, 4) for kind, share in shares.items()}, "most_repeated": repeated}
    odd = [kind for kind, share in shares.items() if share > MOST_SHARE[kind] and seen.rows >= 10]
    if odd:
        told = ", ".join(f"{shares[kind]:.0%} {kind}" for kind in odd)
        return CheckOutcome(False, f"of {seen.rows:,} texts: {told}; look at the source and the template", metadata)
    return CheckOutcome(
        True, f"{seen.rows:,} texts; the most frequent is there {top[0][1] if top else 0:,} times", metadata
    )


def columns_complete(view: RawView) -> CheckOutcome:
    """Of each column, the values of the source are the values kept and those counted as nulled, in a type for all."""
    assert view.reading is not None
    wrong = []
    union = schema_of(view.raw)
    for path, (_, schema) in view.reading.schemas.items():
        for column in schema:
            if column.name in (RECORD, LINE):
                continue
            if column.name not in union.names:
                wrong.append(f"{path} has a column {column.name}, the manifest has not")
            elif common(ColumnType(column.type), ColumnType(kind := union.field(column.name).type)).type != kind:
                wrong.append(f"{path}: {column.name} is {column.type}, which is no part of {kind}")
    for name, figures in view.raw.columns.items():
        kept = view.seen.values[name]
        if kept + figures.nulled != figures.values:
            wrong.append(f"{name} had {figures.values:,} values, {kept:,} are kept and {figures.nulled:,} nulled")
    if wrong:
        return CheckOutcome(False, wrong[0], {"columns": wrong[:20]})
    nulled = view.raw.nulled
    text = f"{len(view.raw.columns)} columns, {sum(nulled.values()):,} values nulled"
    return CheckOutcome(True, text, {"nulled": nulled})


RAW_CHECKS: dict[str, Check[RawView]] = {
    **ROW_CHECKS,
    "all_records_accounted": all_records_accounted,
    "rejects_within_limit": rejects_within_limit,
    "texts_plausible": texts_plausible,
    "columns_complete": columns_complete,
}
