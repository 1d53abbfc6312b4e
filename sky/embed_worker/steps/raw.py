"""One dataset's source → one snapshot of raw_reviews: parts that are there are found, the others made."""

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from embed_worker.lake import failpoints, layout
from embed_worker.lake.errors import BadManifest
from embed_worker.lake.manifests import read_manifest, write_manifest
from embed_worker.lake.parallel import in_parallel
from embed_worker.lake.seal import sealed
from embed_worker.lake.snapshots import PartRecord, Pointer, RawManifest, SeenSource, SourceEntry, pointed
from embed_worker.lake.spec import digest_of
from embed_worker.lake.store import Store
from embed_worker.steps import parse
from embed_worker.steps.errors import SourceError
from embed_worker.steps.parse import Window
from embed_worker.steps.parts import Parts, Task
from embed_worker.steps.pool import make_all
from embed_worker.steps.ranges import cut
from embed_worker.steps.snapshots import FileRead, Snapshot
from embed_worker.steps.source import Found, SourceFile, find, proves
from embed_worker.steps.spec import RowRange, SourceSpec
from embed_worker.steps.twins import find_twins


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


@dataclass(frozen=True)
class Progress:
    """How far an ingest is."""

    bytes: int
    """Of the source's files, as they are stored; those of unchanged files count as read."""
    total_bytes: int
    rows: int
    read: int
    """Of the bytes, those that this ingest has read."""


Tell = Callable[[Progress], None]


def ingest(
    store: Store,
    dataset: SourceSpec,
    tell: Tell = lambda _: None,
    *,
    keep_base: bool = False,
    agree: Callable[[RawManifest], None] = lambda _: None,
) -> Ingested:
    """Makes the snapshot of the source as it is now, or finds it made. Moves `_latest.json` to it, and `_base.json`
    unless that is to be kept; `agree` is asked first, and may raise.

    Raises SourceError where the source cannot be read as the spec says, StoreUnavailable where the lake's disk
    is full; nothing is committed then but parts, which the next call finds.
    """
    begun = time.monotonic()
    found = find(dataset)
    stamps = _stamps(found.files)
    reading = _Reading(store, dataset, found, stamps, tell)
    read = list(reading.limited() if dataset.rows != RowRange() else reading.all())
    making = Snapshot(store, dataset, read)
    making.judge()
    if _stamps(found.files) != stamps:
        raise SourceError(f"dataset {dataset.name}: the source changed while it was read; materialize it again")
    failpoints.reach("raw.written")
    parts = [record.part_id for record in making.records]
    snapshot = digest_of([dataset.ingest_id, dataset.rows.model_dump(mode="json"), parts])
    path = layout.snapshot_file(dataset.name, dataset.ingest_id, snapshot)
    try:
        manifest = read_manifest(store, path, RawManifest)
    except BadManifest as error:
        raise DamagedSnapshot(str(error), path) from error
    created = manifest is None
    if manifest is None:
        with store.scratch() as scratch:
            folder = layout.raw_folder(dataset.name, dataset.ingest_id)
            twins = find_twins(store, folder, making.records, scratch) if dataset.id is not None else {}
            failpoints.reach("raw.keys")
            manifest = making.made(snapshot, twins, reading.digests, found.warnings, scratch)
        manifest.seconds = round(time.monotonic() - begun, 3)
        failpoints.reach("raw.ready")
        write_manifest(store, path, manifest)
        manifest = read_manifest(store, path, RawManifest) or manifest
    failpoints.reach("raw.committed")
    agree(manifest)
    base, latest = (point(dataset.name, dataset.ingest_id) for point in (layout.raw_base, layout.raw_latest))
    _point(store, latest, snapshot)  # first: with a base beyond the latest, the delta would lead back
    failpoints.reach("raw.pointed")
    if not keep_base or not store.exists(base):
        _point(store, base, snapshot)
        failpoints.reach("raw.based")
    _note(store, dataset, manifest, [one.entry for one in read])
    return Ingested(manifest, created)


def _note(store: Store, dataset: SourceSpec, manifest: RawManifest, source: list[SourceEntry]) -> None:
    """Files that are not as the snapshot's manifest has them are not opened again for that."""
    if source != manifest.source:
        path = layout.raw_seen(dataset.name, dataset.ingest_id)
        _put(store, path, sealed(path, SeenSource(source=source).model_dump(mode="json")))


def take_base(store: Store, raw: RawManifest) -> None:
    """Makes a snapshot that is the latest the base, too."""
    _point(store, layout.raw_base(raw.dataset, raw.ingest_id), raw.snapshot)
    failpoints.reach("raw.based")


def _point(store: Store, path: str, snapshot: str) -> None:
    _put(store, path, sealed(path, Pointer(snapshot=snapshot).model_dump()))


def _put(store: Store, path: str, word: bytes) -> None:
    if not store.exists(path) or store.read(path) != word:
        store.replace(path, word)


def _stamps(files: list[SourceFile]) -> list[dict[str, Any]]:
    """What shows that the files change."""
    stamps = []
    for file in files:
        try:
            stamps.append(file.stamp())
        except Exception as error:  # as many kinds as there are stores
            raise SourceError(f"{file.url} cannot be read: {type(error).__name__}: {error}") from error
    return stamps


class _Reading:
    """The files of a source, each read as far as that is not done."""

    def __init__(
        self, store: Store, dataset: SourceSpec, found: Found, stamps: list[dict[str, str]], tell: Tell
    ) -> None:
        self._store, self._dataset, self._files, self._tell = store, dataset, found.files, tell
        self._parts = Parts(store, dataset)
        now = time.time()
        self._stamps = [stamp if proves(stamp, now) else None for stamp in stamps]
        self._total = sum(int(stamp.get("size") or 0) for stamp in stamps)
        self._bytes = self._rows = self._read = 0
        self._parts.told = self._midway
        self.digests: dict[str, str] = {}
        """Of parts by their identity, as earlier snapshots have them."""
        self._known: dict[str, FileRead] = {}
        self._remember()

    def _remember(self) -> None:
        """Files that are as an earlier snapshot found them."""
        entries: list[SourceEntry] = []
        which = self._dataset.name, self._dataset.ingest_id
        for pointer in (layout.raw_base, layout.raw_latest):
            with suppress(BadManifest):
                if (earlier := pointed(self._store, pointer(*which), *which)) is not None:
                    self.digests |= {part.identity: part.digest for part in earlier.parts}
                    entries += earlier.source
        with suppress(BadManifest):
            if (seen := read_manifest(self._store, layout.raw_seen(*which), SeenSource)) is not None:
                entries += seen.source
        known = {(entry.url, str(entry.stamp)): entry for entry in entries if entry.whole and entry.stamp is not None}
        for file, stamp in zip(self._files, self._stamps, strict=True):
            entry = known.get((file.url, str(stamp)))
            if entry is not None and (entry.format, entry.compression) == (file.format, file.compression):
                records = in_parallel(self._parts.record, entry.parts)
                there = [record for record in records if record is not None]
                if len(there) == len(records):
                    self._known[file.url] = FileRead(file, stamp, entry.content, entry.bytes, there, True)

    def all(self) -> Iterator[FileRead]:
        """Each file to its end."""
        read: list[FileRead] = []
        tasks: list[tuple[FileRead, int, Task]] = []
        found: dict[tuple[int, int], list[PartRecord]] = {}
        for at, (file, stamp) in enumerate(zip(self._files, self._stamps, strict=True)):
            if (known := self._known.get(file.url)) is not None:
                read.append(known)
                self._told(known.records, known.bytes, known=True)
                continue
            how = cut(file)
            read.append(FileRead(file, stamp, how.content, how.bytes, [], True))
            for number, span in enumerate(how.ranges):
                task = Task(file, span, how.content, how.bytes // len(how.ranges), give_up=at == number == 0)
                tasks.append((read[-1], number, task))
                if task.give_up:  # alone: a mistake in the spec shows before much is read
                    made = self._parts.make(task)
                    self._told(made.records, task.bytes)
                    found[id(read[-1]), number] = made.records
                    tasks.pop()
                    self._judge(file, made.records)
        for place, made in make_all(self._store, self._dataset, [task for _, _, task in tasks]):
            of, number, task = tasks[place]
            found[id(of), number] = made.records
            self._told(made.records, task.bytes)
        for one in read:
            ranges = sorted(number for of, number in found if of == id(one))
            one.records = one.records or [record for number in ranges for record in found[id(one), number]]
            yield one

    def limited(self) -> Iterator[FileRead]:
        """As many files, ranges and records, one after another, as `rows` asks for."""
        rows, passed = self._dataset.rows, 0
        for at, (file, stamp) in enumerate(zip(self._files, self._stamps, strict=True)):
            if rows.end is not None and passed >= rows.end:
                return
            known = self._known.get(file.url)
            if known is not None and passed >= rows.start:
                kept = sum(record.kept for record in known.records)
                if rows.end is None or passed + kept <= rows.end:
                    passed += kept
                    self._told(known.records, known.bytes, known=True)
                    yield known
                    continue
            how = cut(file)
            one = FileRead(file, stamp, how.content, how.bytes, [], passed >= rows.start)
            for number, span in enumerate(how.ranges):
                if rows.end is not None and passed >= rows.end:
                    one.whole = False
                    break
                skip = max(0, rows.start - passed)
                take = None if rows.end is None else rows.end - max(passed, rows.start)
                task = Task(file, span, how.content, how.bytes, Window(skip, take), give_up=at == number == 0)
                made = self._parts.make(task)
                if task.give_up:
                    self._judge(file, made.records)
                one.records += made.records
                one.whole &= made.records[-1].account.whole
                passed += sum(record.kept + record.outside for record in made.records)
                self._told(made.records, how.bytes // len(how.ranges))
            yield one

    def _judge(self, file: SourceFile, records: list[PartRecord]) -> None:
        """Of the first range: raises SourceError where its reading was given up."""
        kept = sum(record.kept for record in records)
        if not records[-1].account.whole and kept >= parse.HOPELESS and not any(record.rows for record in records):
            Snapshot(self._store, self._dataset, [FileRead(file, None, "", 0, records, False)]).judge()

    def _told(self, records: list[PartRecord], size: int, *, known: bool = False) -> None:
        self._bytes += size
        self._read += 0 if known else size
        self._rows += sum(record.rows for record in records)
        self._midway(0, 0)

    def _midway(self, size: int, rows: int) -> None:
        """Within a range: so much of it is read."""
        done = min(self._bytes + size, self._total)
        self._tell(Progress(done, self._total, self._rows + rows, self._read + size))
