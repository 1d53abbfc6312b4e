"""One dataset's source → one snapshot of raw_reviews, streamed."""

import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embed_assets.ingest.columns import ExtraColumns
from embed_assets.ingest.errors import SourceError
from embed_assets.ingest.ids import SeenIds
from embed_assets.ingest.records import Fault, Record, columns_of, read_records
from embed_assets.ingest.source import SourceFile, find_files
from embed_assets.ingest.writers import PartWriter, RejectWriter
from embed_assets.spec.pipeline import DatasetSpec
from embed_assets.spec.template import Template
from embed_worker import layout
from embed_worker.manifests import RawManifest, read_manifest
from embed_worker.model_spec import digest_of
from embed_worker.store import Store, to_json

SAMPLE = 10_000
"""Records that fix the columns' types."""

Progress = Callable[[int], None]
"""Called with the number of records read so far."""


@dataclass(frozen=True)
class Ingested:
    """The snapshot, and whether this call made it."""

    manifest: RawManifest
    created: bool


def ingest(store: Store, dataset: DatasetSpec, progress: Progress = lambda _: None) -> Ingested:
    """Makes the snapshot of the source as it is now, or finds it made. Moves `_latest.json` to it.

    Raises SourceError where the source cannot be read as the spec says; nothing is committed then.
    """
    sources = find_files(dataset)
    identity = [source.identity() for source in sources]
    # A copy elsewhere with the same bytes is the same snapshot: only etags need their URL beside them.
    snapshot = digest_of([identity, dataset.ingest_identity()])
    folder = layout.raw_folder(dataset.name, snapshot)
    manifest = read_manifest(store, f"{folder}/{layout.MANIFEST}", RawManifest)
    created = manifest is None
    if manifest is None:
        begun = time.monotonic()
        with store.scratch() as scratch:
            manifest = _Ingest(store, dataset, sources, scratch, progress).run(snapshot, identity)
        manifest.seconds = round(time.monotonic() - begun, 3)
        store.create_json(f"{folder}/{layout.MANIFEST}", manifest.model_dump(mode="json"))
        manifest = read_manifest(store, f"{folder}/{layout.MANIFEST}", RawManifest) or manifest
    latest = {"snapshot": snapshot}
    path = layout.raw_latest(dataset.name)
    if not store.exists(path) or store.read_json(path) != latest:
        store.replace(path, to_json(latest))
    return Ingested(manifest, created)


class _Ingest:
    def __init__(
        self, store: Store, dataset: DatasetSpec, sources: list[SourceFile], scratch: Path, progress: Progress
    ) -> None:
        self.store, self.dataset, self.sources, self.scratch, self.progress = store, dataset, sources, scratch, progress
        self.text = Template(dataset.text)
        self.id = Template(dataset.id) if dataset.id else None
        self.reading = ""
        self.rejects = RejectWriter(scratch / layout.REJECTS)

    def run(self, snapshot: str, identity: list[dict[str, Any]]) -> RawManifest:
        folder = layout.raw_folder(self.dataset.name, snapshot)
        records = self._selected()
        sample = list(itertools.islice(records, SAMPLE))
        self._require_columns([record for _, record in sample])
        used = {t.columns[0] for t in (self.text, self.id) if t and t.text == f"{{{t.columns[0]}}}"}
        used &= {"text", "id"}  # stored as it is under its own name
        schema = columns_of(self.sources[0])
        extra = (
            ExtraColumns.from_schema(schema, used)
            if schema is not None
            else ExtraColumns.from_records((r for _, r in sample), used, self.sources[0].format != "jsonl")
        )
        writer = PartWriter(self.store, folder, self.scratch, extra)
        seen = SeenIds(self.scratch) if self.id else None
        count = 0
        for count, (position, record) in enumerate(itertools.chain(sample, records), start=1):
            self._take(position, record, writer, extra, seen, used)
            if count % 5_000 == 0:
                self.progress(count)
        self.progress(count)
        if count == 0:
            raise SourceError(
                f"dataset {self.dataset.name}: the source has no record"
                + (" that `where` and `rows` let through" if self.dataset.where or self.dataset.rows.start else "")
            )
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
        self, position: int, record: Record, writer: PartWriter, extra: ExtraColumns, seen: SeenIds | None,
        used: set[str],
    ) -> None:  # fmt: skip
        if isinstance(record, Fault):
            self._reject(position, None, record.reason)
            return
        id_ = str(position) if self.id is None else self.id.render(record)
        text = self.text.render(record)
        if id_ is None or not id_.strip():
            self._reject(position, None, "no id")
        elif text is None:
            self._reject(position, id_, "null text")
        elif not text.strip():
            self._reject(position, id_, "blank text" if text else "empty text")
        elif len(text.encode("utf-8", "surrogatepass")) > self.dataset.max_text_bytes:
            self._reject(position, id_, "text too long")
        elif not _storable(text) or not _storable(id_):
            self._reject(position, id_.encode("ascii", "backslashreplace").decode(), "invalid Unicode")
        elif seen is not None and not seen.add(id_):
            self._reject(position, id_, "duplicate id")
        else:
            writer.add(id_, text, extra.values(record, used))

    def _reject(self, position: int, id_: str | None, reason: str) -> None:
        self.rejects.add(position, id_, reason, self.reading)

    def _selected(self) -> Iterator[tuple[int, Record]]:
        """(position in the source, record) after the row filter and the row range."""
        wanted = {
            column: {str(v) for v in (value if isinstance(value, list) else [value])}
            for column, value in self.dataset.where.items()
        }
        rows, kept = self.dataset.rows, 0
        position = -1
        for source in self.sources:
            self.reading = source.url
            for record in read_records(source):
                position += 1
                if isinstance(record, dict) and any(str(record.get(c)) not in v for c, v in wanted.items()):
                    continue
                if kept >= rows.start:
                    yield position, record
                kept += 1
                if rows.end is not None and kept >= rows.end:
                    return

    def _require_columns(self, sample: list[Record]) -> None:
        schema = columns_of(self.sources[0])
        known = set(schema.names) if schema is not None else {c for r in sample if isinstance(r, dict) for c in r}
        needed = [*self.text.columns, *(self.id.columns if self.id else []), *self.dataset.where]
        if known and (missing := [name for name in needed if name not in known]):
            raise SourceError(
                f"dataset {self.dataset.name}: {self.sources[0].url} has no column {missing[0]!r}; "
                f"it has {', '.join(sorted(known))}"
            )


def _storable(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
