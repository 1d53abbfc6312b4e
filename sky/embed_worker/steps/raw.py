"""One dataset's source → one snapshot of raw_reviews, streamed."""

import base64
import time
from collections.abc import Callable, Iterator
from contextlib import closing, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NoReturn

from embed_worker.lake import failpoints, layout
from embed_worker.lake.errors import BadManifest
from embed_worker.lake.manifests import ColumnFigures, Latest, RawManifest, SourceAccount, read_manifest, write_manifest
from embed_worker.lake.seal import sealed
from embed_worker.lake.spec import digest_of
from embed_worker.lake.store import Store
from embed_worker.steps.columns import ExtraColumns
from embed_worker.steps.errors import SourceError
from embed_worker.steps.filter import RowFilter
from embed_worker.steps.ids import SeenIds
from embed_worker.steps.judge import shown, text_bytes, why_not
from embed_worker.steps.records import Account, Fault, Row, read_rows
from embed_worker.steps.seen import SeenColumns
from embed_worker.steps.source import Found, SourceFile, find
from embed_worker.steps.spec import RowRange, SourceSpec
from embed_worker.steps.template import Template
from embed_worker.steps.writers import PartWriter, RejectWriter

HOPELESS = 100_000
"""Records after which the reading ends where not one could be used."""

Progress = Callable[[int], None]
"""Called with the number of records read so far."""


class DamagedSnapshot(BadManifest):
    """The manifest of this very snapshot cannot be read; `path` is where it lies."""

    def __init__(self, message: str, path: str) -> None:
        super().__init__(message)
        self.path = path


@dataclass(frozen=True)
class Ingested:
    """The snapshot, and whether this call made it."""

    manifest: RawManifest
    created: bool


def ingest(store: Store, dataset: SourceSpec, progress: Progress = lambda _: None) -> Ingested:
    """Makes the snapshot of the source as it is now, or finds it made. Moves `_latest.json` to it.

    Raises SourceError where the source cannot be read as the spec says, StoreUnavailable where the lake's disk
    is full; nothing is committed then.
    """
    found = find(dataset)
    sources = found.files
    stamps, identity = _identify(sources)
    # A copy elsewhere with the same bytes is the same snapshot: only etags need their URL beside them.
    snapshot = digest_of([identity, dataset.ingest_identity()])
    folder = layout.raw_folder(dataset.name, snapshot)
    try:
        manifest = read_manifest(store, f"{folder}/{layout.MANIFEST}", RawManifest)
    except BadManifest as error:
        raise DamagedSnapshot(str(error), f"{folder}/{layout.MANIFEST}") from error
    created = manifest is None
    if manifest is None:
        begun = time.monotonic()
        with store.scratch() as scratch:
            manifest = _Ingest(store, dataset, found, scratch, progress).run(snapshot, identity)
        if _identify(sources, again=True)[0] != stamps:
            raise SourceError(f"dataset {dataset.name}: the source changed while it was read; materialize it again")
        failpoints.reach("raw.written")
        manifest.seconds = round(time.monotonic() - begun, 3)
        write_manifest(store, f"{folder}/{layout.MANIFEST}", manifest)
        manifest = read_manifest(store, f"{folder}/{layout.MANIFEST}", RawManifest) or manifest
    failpoints.reach("raw.committed")
    path = layout.raw_latest(dataset.name)
    latest = sealed(path, Latest(snapshot=snapshot).model_dump())
    if not store.exists(path) or store.read(path) != latest:
        store.replace(path, latest)
    failpoints.reach("raw.latest")
    return Ingested(manifest, created)


def _identify(sources: list[SourceFile], again: bool = False) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """What shows that the files change, and what their content is; the latter not `again`."""
    stamps, identity = [], []
    for source in sources:
        try:
            stamps.append(source.stamp())
            how = {"format": source.format, "compression": source.compression}
            identity.append(how if again else {**source.identity(), **how})
        except Exception as error:  # as many kinds as there are stores
            raise SourceError(f"{source.url} cannot be read: {type(error).__name__}: {error}") from error
    return stamps, identity


class _Ingest:
    def __init__(self, store: Store, dataset: SourceSpec, found: Found, scratch: Path, progress: Progress) -> None:
        self.store, self.dataset, self.sources, self.scratch, self.progress = (
            store, dataset, found.files, scratch, progress,
        )  # fmt: skip
        self.warnings = list(found.warnings)
        self.text = Template(dataset.text)
        self.id = Template(dataset.id) if dataset.id else None
        self.where = RowFilter(dataset.where)
        self.rejects = RejectWriter(scratch / layout.REJECTS)
        used = {t.columns[0] for t in (self.text, self.id) if t and t.is_one_column}
        self.extra = ExtraColumns(dataset, used & {"text", "id"})  # those are stored under their own names
        self.accounts: list[Account] = []
        self.filtered = self.outside = 0
        self.seen = SeenColumns(self.text.columns, self.id.columns if self.id else [])

    def run(self, snapshot: str, identity: list[dict[str, Any]]) -> RawManifest:
        folder = layout.raw_folder(self.dataset.name, snapshot)
        writer = PartWriter(self.store, folder, self.scratch, self.extra)
        count = 0
        with closing(SeenIds(self.scratch)) if self.id else nullcontext() as seen:
            for count, taken in enumerate(self._selected(), start=1):
                if (reason := self._take(taken, writer, seen)) is not None:
                    self._set_aside(taken, *reason)
                if count % 5_000 == 0:
                    self.progress(count)
                if count == HOPELESS and not writer.rows:
                    break
        self.progress(count)
        if count == 0:
            self._nothing()
        if self.sources[0].format == "jsonl":
            self.seen.judge(f"dataset {self.dataset.name}: {self.sources[0].url}", count)
        self._rejects_are_few(count, writer.rows, folder)
        parts = writer.close()
        self._same_bytes(identity)
        return RawManifest(
            dataset=self.dataset.name,
            snapshot=snapshot,
            source=[{**known, "url": s.url} for known, s in zip(identity, self.sources, strict=True)],
            ingest=self.dataset.ingest_identity(),
            files=parts,
            rejects=self.rejects.publish(self.store, folder),
            records=count,
            rows=writer.rows,
            rejects_by_reason=self.rejects.by_reason,
            filtered=self.filtered,
            outside=self.outside,
            accounts=[
                SourceAccount(url=source.url, **asdict(account))
                for source, account in zip(self.sources, self.accounts, strict=False)
            ],
            columns={
                name: ColumnFigures(
                    type=str(kind.type), values=self.extra.values.get(name, 0), nulled=self.extra.nulled.get(name, 0)
                )
                for name, kind in writer.types.items()
            },
            arrow_schema=base64.b64encode(writer.schema.serialize()).decode(),
            matched=self.where.matched,
            warnings=[
                *self.warnings,
                *self.where.warnings(),
                *(f"`columns` names {name!r}, and no file has it" for name in self.extra.never_seen()),
            ],
            text_bytes=writer.text_bytes,
        )

    def _take(self, taken: "_Taken", writer: PartWriter, seen: SeenIds | None) -> tuple[str | None, str] | None:
        """Writes a row, or says as (id, reason) why the record gives none."""
        record = taken.row.record
        if isinstance(record, Fault):
            return None, record.reason
        id_ = str(taken.position) if self.id is None else self.id.render(record)
        text = self.text.render(record)
        if (why := why_not(id_, text, self.dataset.max_text_bytes)) is not None:
            return why
        assert id_ is not None and text is not None
        if seen is not None and not seen.add(id_):
            return id_, "duplicate id"
        writer.add(id_, text, text_bytes(text), taken.row)
        return None

    def _set_aside(self, taken: "_Taken", id_: str | None, reason: str) -> None:
        record = taken.row.record
        if isinstance(record, Fault):
            detail, excerpt = record.detail, record.excerpt
        else:
            detail, excerpt = shown(record, reason, self.dataset.encoding)
        self.rejects.add(taken.position, id_, reason, taken.file, taken.row.line, detail, excerpt)

    def _selected(self) -> Iterator["_Taken"]:
        """The records after the row filter and the row range."""
        rows, kept = self.dataset.rows, 0
        position = -1
        needed = [*self.text.columns, *(self.id.columns if self.id else []), *self.dataset.where]
        for source in self.sources:
            account = Account()
            self.accounts.append(account)
            for row in read_rows(source, needed, account):
                position += 1
                if isinstance(row.record, dict):
                    self.seen.look(row.record)
                    if not self.where(row.record):
                        self.filtered += 1
                        continue
                if kept >= rows.start:
                    yield _Taken(position, source.url, row)
                else:
                    self.outside += 1
                kept += 1
                if rows.end is not None and kept >= rows.end:
                    return

    def _rejects_are_few(self, count: int, rows: int, folder: str) -> None:
        """More rejects than the spec allows: nothing is committed, and the rejects are there to look at."""
        share, name = self.rejects.rows / count, self.dataset.name
        if rows and share <= self.dataset.max_rejects:
            return
        reasons = ", ".join(f"{reason} {n:,}" for reason, n in sorted(self.rejects.by_reason.items()))
        file = self.rejects.publish(self.store, folder)
        kept = f"; all are in {self.store.url(f'{folder}/{file.path}')}" if file else ""
        shown = "; ".join(self.rejects.first)
        if not rows:
            which = f"all {count:,} records" if count < HOPELESS else f"the first {count:,} records"
            raise SourceError(f"dataset {name}: {which} are unusable ({reasons}): {shown}{kept}")
        raise SourceError(
            f"dataset {name}: {self.rejects.rows:,} of {count:,} records are set aside, more than max_rejects "
            f"{self.dataset.max_rejects:.2%} ({reasons}): {shown}{kept}"
        )

    def _same_bytes(self, identity: list[dict[str, Any]]) -> None:
        """Copies that a pattern found: their rows are there twice."""
        known: dict[str, str] = {}
        for one, source in zip(identity, self.sources, strict=True):
            digest = one.get("sha256") if one.get("size") else None
            if digest and (twin := known.setdefault(digest, source.url)) != source.url:
                self.warnings.append(f"{source.url} has the same bytes as {twin}: its rows are there twice")

    def _nothing(self) -> NoReturn:
        """No record at all: why."""
        name = self.dataset.name
        if self.dataset.where and self.where.unseen and self.filtered:
            column = sorted(self.where.unseen)[0]
            raise SourceError(f"dataset {name}: no record has the column {column!r} that `where` names")
        limited = self.dataset.where or self.dataset.rows != RowRange()
        through = " that `where` and `rows` let through" if limited else ""
        why = "; ".join(self.where.warnings())
        raise SourceError(f"dataset {name}: the source has no record{through}{f'. {why}' if why else ''}")


@dataclass(frozen=True, slots=True)
class _Taken:
    """A record and where it comes from."""

    position: int
    file: str
    row: Row
