"""Parts of a source's files, in order → the snapshot that they make."""

import base64
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import pyarrow as pa
import pyarrow.parquet as pq

from embed_worker.lake import files, layout
from embed_worker.lake.files import FileRef
from embed_worker.lake.identity import RowsDigest, array_row_words, digest_of_words
from embed_worker.lake.snapshots import (
    ColumnFigures,
    PartRecord,
    RawManifest,
    RawPart,
    SourceAccount,
    SourceEntry,
    packed_rows,
)
from embed_worker.lake.store import Store
from embed_worker.steps import filter as row_filter
from embed_worker.steps import parse, seen
from embed_worker.steps.columns import RECORD
from embed_worker.steps.errors import SourceError
from embed_worker.steps.rows import OWN, REJECTS_SCHEMA
from embed_worker.steps.source import SourceFile
from embed_worker.steps.spec import RowRange, SourceSpec
from embed_worker.steps.twins import Dropped
from embed_worker.steps.types import ColumnType, merged

FIRST = 3
TWIN = "duplicate id"


@dataclass
class FileRead:
    """A file of a source and the parts it gave."""

    file: SourceFile
    stamp: dict[str, str] | None
    content: str
    bytes: int
    records: list[PartRecord]
    whole: bool

    @property
    def entry(self) -> SourceEntry:
        return SourceEntry(
            url=self.file.url,
            stamp=self.stamp,
            content=self.content,
            format=self.file.format,
            compression=self.file.compression,
            bytes=self.bytes,
            parts=[record.part_id for record in self.records],
            whole=self.whole,
        )


class Snapshot:
    """A snapshot in the making."""

    def __init__(self, store: Store, spec: SourceSpec, read: Sequence[FileRead]) -> None:
        self._store, self._spec, self._read = store, spec, read
        self._folder = layout.raw_folder(spec.name, spec.ingest_id)
        self.records = [record for one in read for record in one.records]

    def judge(self) -> None:
        """Raises SourceError where the source gives no rows, or lacks a column that a template needs."""
        count = sum(record.kept for record in self.records)
        if count == 0:
            self._nothing()
        first = self._read[0].file
        if first.format == "jsonl":
            states = (record.seen for record in self.records if record.read)
            seen.judge(f"dataset {self._spec.name}: {first.url}", states, count)
        if not sum(record.rows for record in self.records):
            self._refuse(count, self._by_reason({}), 0, self._rejects_at(None))

    def made(
        self, snapshot: str, twins: dict[int, Dropped], digests: dict[str, str], warnings: list[str], scratch: Path
    ) -> RawManifest:
        """`digests`: of parts by their identity, as far as they are known. Raises SourceError where too many records
        are set aside; nothing is committed then."""
        rejects = self._publish_twins(snapshot, twins, scratch)
        reasons = self._by_reason(twins)
        count = sum(record.kept for record in self.records)
        if sum(reasons.values()) > self._spec.max_rejects * count:
            self._refuse(count, reasons, count - sum(reasons.values()), self._rejects_at(rejects))
        parts = list(self._parts(twins, digests))
        types = self._types()
        where = row_filter.added(record.where for record in self.records)
        never = [set(record.never_seen) for record in self.records if record.read]
        total = sum((RowsDigest.parse(part.rows, part.digest) for part in parts), RowsDigest())
        own = [pa.field(name, kind, False) for name, kind in OWN.items()]
        schema = pa.schema([*own, *(pa.field(name, kind.type) for name, kind in types.items())])
        return RawManifest(
            dataset=self._spec.name,
            ingest_id=self._spec.ingest_id,
            snapshot=snapshot,
            source=[one.entry for one in self._read],
            ingest=self._spec.ingest_identity(),
            parts=parts,
            rejects=rejects,
            records=count,
            rows=total.rows,
            rows_digest=str(total),
            rejects_by_reason=reasons,
            first_rejects=self._first_rejects(parts, twins),
            filtered=sum(record.filtered for record in self.records),
            outside=sum(record.outside for record in self.records),
            accounts=[_account(one) for one in self._read if one.records],
            columns=self._columns(types),
            arrow_schema=base64.b64encode(schema.serialize()).decode(),
            matched=where.matched,
            warnings=[
                *warnings,
                *self._same_bytes(),
                *row_filter.warnings(where),
                *(
                    f"`columns` names {name!r}, and no file has it"
                    for name in self._spec.column_names
                    if all(name in names for names in never)
                ),
            ],
            text_bytes=sum(record.text_bytes for record in self.records),
        )

    # -- parts -------------------------------------------------------------------------------------------------

    def _places(self) -> Iterator[tuple[int, int, int, PartRecord]]:
        """Each part with its file's place, its first record's place, and the lines of the file before its range."""
        first_record = 0
        for at, one in enumerate(self._read):
            lines = 0
            for record in one.records:
                yield at, first_record, lines, record
                first_record += record.read
                if record.last:
                    lines += record.account.total

    def _parts(self, twins: dict[int, Dropped], digests: dict[str, str]) -> Iterator[RawPart]:
        first_row = 0
        for at, (source, first_record, lines, record) in enumerate(self._places()):
            gone = twins.get(at)
            part = RawPart(
                part_id=record.part_id,
                file=record.file,
                rejects=record.rejects,
                rows=record.rows - (len(gone.twins) if gone else 0),
                first_row=first_row,
                read=record.read,
                first_record=first_record,
                source=source,
                first_line=lines,
                default_ids=self._spec.id is None,
                dropped=packed_rows(gone.places) if gone else "",
                digest="",
            )
            first_row += part.rows
            yield part.model_copy(update={"digest": digests.get(part.identity) or self._digest(record, part, gone)})

    def _digest(self, record: PartRecord, part: RawPart, gone: Dropped | None) -> str:
        if record.rows_digest is not None:
            whole = RowsDigest.parse(record.rows, record.rows_digest)
            return str(whole - gone.digest if gone else whole)
        found = RowsDigest()
        with self._store.open(f"{self._folder}/{record.file.path}") as source:
            for batch in pq.ParquetFile(source).iter_batches(columns=["text_key", RECORD]):
                positions = batch.column(RECORD).to_numpy() + part.first_record
                ids = pa.array(positions, pa.int64()).cast(pa.string())
                found += digest_of_words(array_row_words(ids, batch.column("text_key")))
        return str(found)

    # -- rejects -----------------------------------------------------------------------------------------------

    def _by_reason(self, twins: dict[int, Dropped]) -> dict[str, int]:
        reasons: Counter[str] = Counter()
        for record in self.records:
            reasons.update(record.rejects_by_reason)
        if twins:
            reasons[TWIN] = sum(len(gone.twins) for gone in twins.values())
        return dict(reasons)

    def _publish_twins(self, snapshot: str, twins: dict[int, Dropped], scratch: Path) -> FileRef | None:
        if not twins:
            return None
        rows = []
        for at, (source, first_record, lines, _) in enumerate(self._places()):
            url = self._read[source].file.url
            rows += [
                (first_record + twin.record, twin.id, TWIN, url, lines + twin.line, "", twin.excerpt)
                for twin in (twins[at].twins if at in twins else ())
            ]
        local = scratch / layout.REJECTS
        columns = [list(values) for values in zip(*rows, strict=True)]
        pq.write_table(pa.table(columns, schema=REJECTS_SCHEMA), local, compression="zstd")
        name = f"{layout.SNAPSHOTS}/{snapshot}.{layout.REJECTS}"
        return files.publish(self._store, self._folder, local, name, len(rows))

    def _first_rejects(self, parts: Sequence[RawPart], twins: dict[int, Dropped]) -> list[str]:
        found = []
        for source, _, lines, record in self._places():
            url = self._read[source].file.url
            for one in record.first_rejects:
                detail = f" ({one.detail})" if one.detail else ""
                found.append(f"{url} line {lines + one.line}: {one.reason}{detail}: {one.excerpt!r}")
            if len(found) >= FIRST:
                return found[:FIRST]
        for at, (source, _, lines, _) in enumerate(self._places()):
            url = self._read[source].file.url
            for twin in twins[at].twins[:FIRST] if at in twins else ():
                found.append(f"{url} line {lines + twin.line}: {TWIN} ({twin.id}): {twin.excerpt!r}")
        return found[:FIRST]

    def _rejects_at(self, twins: FileRef | None) -> list[str]:
        own = [record.rejects for record in self.records if record.rejects]
        return [self._store.url(f"{self._folder}/{file.path}") for file in [*own, *([twins] if twins else [])]]

    def _refuse(self, count: int, reasons: dict[str, int], rows: int, kept: list[str]) -> NoReturn:
        """More rejects than the spec allows: nothing is committed, and the rejects are there to look at."""
        told = ", ".join(f"{reason} {n:,}" for reason, n in sorted(reasons.items()))
        more = f" and {len(kept) - 1} files more" if len(kept) > 1 else ""
        there = f"; all are in {kept[0]}{more}" if kept else ""
        shown = "; ".join(self._first_rejects([], {}))
        name, rejects = self._spec.name, sum(reasons.values())
        if not rows:
            which = f"all {count:,} records" if count < parse.HOPELESS else f"the first {count:,} records"
            raise SourceError(f"dataset {name}: {which} are unusable ({told}): {shown}{there}")
        raise SourceError(
            f"dataset {name}: {rejects:,} of {count:,} records are set aside, more than max_rejects "
            f"{self._spec.max_rejects:.2%} ({told}): {shown}{there}"
        )

    def _nothing(self) -> NoReturn:
        """No record at all: why."""
        name, where = self._spec.name, row_filter.added(record.where for record in self.records)
        if where.unseen and any(record.filtered for record in self.records):
            raise SourceError(f"dataset {name}: no record has the column {where.unseen[0]!r} that `where` names")
        limited = self._spec.where or self._spec.rows != RowRange()
        through = " that `where` and `rows` let through" if limited else ""
        why = "; ".join(row_filter.warnings(where))
        raise SourceError(f"dataset {name}: the source has no record{through}{f'. {why}' if why else ''}")

    # -- columns -----------------------------------------------------------------------------------------------

    def _types(self) -> dict[str, ColumnType]:
        types: dict[str, ColumnType] = {}
        for record in self.records:
            schema = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(record.arrow_schema)))
            merged(
                types,
                {name: ColumnType(schema.field(name).type, name in record.wide) for name in record.columns},
            )
        return types

    def _columns(self, types: dict[str, ColumnType]) -> dict[str, ColumnFigures]:
        values: Counter[str] = Counter()
        nulled: Counter[str] = Counter()
        for record in self.records:
            for name, figures in record.columns.items():
                values[name] += figures.values
                nulled[name] += figures.nulled
        return {
            name: ColumnFigures(type=str(kind.type), values=values[name], nulled=nulled[name])
            for name, kind in types.items()
        }

    def _same_bytes(self) -> Iterator[str]:
        """Copies that a pattern found: their rows are there twice."""
        known: dict[tuple[str, ...], str] = {}
        for one in self._read:
            parts = tuple(record.part_id for record in one.records)
            if any(record.rows for record in one.records):
                twin = known.setdefault(parts, one.file.url)
                if twin != one.file.url:
                    yield f"{one.file.url} has the same bytes as {twin}: its rows are there twice"


def _account(one: FileRead) -> SourceAccount:
    """Of a file, over its ranges."""
    notes: Counter[str] = Counter()
    ends = [record.account for record in one.records if record.last]
    for account in ends:
        notes.update(account.notes)
    return SourceAccount(
        url=one.file.url,
        unit=ends[0].unit if ends else "lines",
        total=sum(account.total for account in ends),
        accounted=sum(account.accounted for account in ends),
        records=sum(record.read for record in one.records),
        whole=one.whole and all(account.whole for account in ends),
        notes=dict(notes),
    )
