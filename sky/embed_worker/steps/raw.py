"""One dataset's source → one snapshot of raw_reviews, streamed."""

import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from embed_worker.lake import failpoints, layout
from embed_worker.lake.errors import BadManifest
from embed_worker.lake.manifests import Latest, RawManifest, read_manifest, write_manifest
from embed_worker.lake.seal import sealed
from embed_worker.lake.spec import digest_of
from embed_worker.lake.store import Store
from embed_worker.steps.columns import ExtraColumns
from embed_worker.steps.errors import SourceError
from embed_worker.steps.filter import RowFilter
from embed_worker.steps.ids import SeenIds
from embed_worker.steps.records import Fault, Record, columns_of, read_records
from embed_worker.steps.source import SourceFile, find_files
from embed_worker.steps.spec import RowRange, SourceSpec
from embed_worker.steps.template import Template
from embed_worker.steps.writers import PartWriter, RejectWriter

SAMPLE = 10_000
SAMPLE_BYTES = 64 << 20
"""Records, or bytes of them, that fix the columns' types."""

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
    sources = find_files(dataset)
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
            manifest = _Ingest(store, dataset, sources, scratch, progress).run(snapshot, identity)
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
    def __init__(
        self, store: Store, dataset: SourceSpec, sources: list[SourceFile], scratch: Path, progress: Progress
    ) -> None:
        self.store, self.dataset, self.sources, self.scratch, self.progress = store, dataset, sources, scratch, progress
        self.text = Template(dataset.text)
        self.id = Template(dataset.id) if dataset.id else None
        self.where = RowFilter(dataset.where)
        self.rejects = RejectWriter(scratch / layout.REJECTS)

    def run(self, snapshot: str, identity: list[dict[str, Any]]) -> RawManifest:
        folder = layout.raw_folder(self.dataset.name, snapshot)
        records = self._selected()
        schema = columns_of(self.sources[0])
        sample = list(_sample(records)) if schema is None else []
        self._require_columns([taken.record for taken in sample])
        used = {t.columns[0] for t in (self.text, self.id) if t and t.text == f"{{{t.columns[0]}}}"}
        used &= {"text", "id"}  # stored as it is under its own name
        extra = (
            ExtraColumns.from_schema(schema, used)
            if schema is not None
            else ExtraColumns.from_records((t.record for t in sample), used, self.sources[0].format != "jsonl")
        )
        writer = PartWriter(self.store, folder, self.scratch, extra)
        count = 0
        with closing(SeenIds(self.scratch)) if self.id else nullcontext() as seen:
            for count, taken in enumerate(itertools.chain(sample, records), start=1):
                if (reason := self._take(taken, writer, extra, seen, used)) is not None:
                    self.rejects.add(taken.position, *reason, taken.file)
                if count % 5_000 == 0:
                    self.progress(count)
        self.progress(count)
        if count == 0:
            self._nothing()
        parts = writer.close()
        if not writer.rows:
            reasons = ", ".join(sorted(self.rejects.by_reason))
            raise SourceError(f"dataset {self.dataset.name}: all {count} records are unusable ({reasons})")
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
            nulled=extra.nulled,
            text_bytes=writer.text_bytes,
        )

    def _take(
        self, taken: "_Taken", writer: PartWriter, extra: ExtraColumns, seen: SeenIds | None, used: set[str]
    ) -> tuple[str | None, str] | None:
        """Writes a row, or says as (id, reason) why the record gives none."""
        record = taken.record
        if isinstance(record, Fault):
            return None, record.reason
        id_ = str(taken.position) if self.id is None else self.id.render(record)
        text = self.text.render(record)
        if id_ is None or not id_.strip():
            return None, "no id"
        if not _storable(id_):
            return id_.encode("ascii", "backslashreplace").decode(), "invalid UTF-8"
        if text is None:
            return id_, "null text"
        if not text.strip():
            return id_, "blank text" if text else "empty text"
        if not _storable(text):
            return id_, "invalid UTF-8"
        size = len(text) if text.isascii() else len(text.encode())
        if size > self.dataset.max_text_bytes:
            return id_, "text too long"
        if seen is not None and not seen.add(id_):
            return id_, "duplicate id"
        writer.add(id_, text, size, extra.values(record, used))
        return None

    def _selected(self) -> Iterator["_Taken"]:
        """The records after the row filter and the row range."""
        rows, kept = self.dataset.rows, 0
        position = -1
        needed = [*self.text.columns, *(self.id.columns if self.id else []), *self.dataset.where]
        for source in self.sources:
            for record in read_records(source, needed):
                position += 1
                if isinstance(record, dict) and not self.where(record):
                    continue
                if kept >= rows.start:
                    yield _Taken(position, source.url, record)
                kept += 1
                if rows.end is not None and kept >= rows.end:
                    return

    def _require_columns(self, sample: list[Record]) -> None:
        """For JSON, whose files name no columns: one that no sampled record has is a typing error in the spec."""
        known = {name for record in sample if isinstance(record, dict) for name in record}
        needed = [*self.text.columns, *(self.id.columns if self.id else [])]
        if known and (missing := [name for name in needed if name not in known]):
            raise SourceError(
                f"dataset {self.dataset.name}: {self.sources[0].url} has no column {missing[0]!r}; "
                f"it has {', '.join(sorted(known))}"
            )

    def _nothing(self) -> NoReturn:
        """No record at all: why."""
        name = self.dataset.name
        if self.dataset.where and self.where.unseen and self.sources[0].format == "jsonl":
            column = sorted(self.where.unseen)[0]
            raise SourceError(f"dataset {name}: no record has the column {column!r} that `where` names")
        limited = self.dataset.where or self.dataset.rows != RowRange()
        through = " that `where` and `rows` let through" if limited else ""
        raise SourceError(f"dataset {name}: the source has no record{through}")


@dataclass(frozen=True, slots=True)
class _Taken:
    """A record and where it comes from."""

    position: int
    file: str
    record: Record


def _sample(records: Iterator[_Taken]) -> Iterator[_Taken]:
    """The first records, as far as they may be held in memory."""
    size = 0
    for taken in itertools.islice(records, SAMPLE):
        yield taken
        if isinstance(taken.record, dict):
            size += sum(len(v) if isinstance(v, str) else 64 for v in taken.record.values())
        if size > SAMPLE_BYTES:
            return


def _storable(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
