"""What of raw_reviews nobody needs any more: snapshots that no pointer names, parts that no snapshot lists."""

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

from embed_worker.lake import layout
from embed_worker.lake.deltas import DeltaManifest
from embed_worker.lake.errors import BadManifest
from embed_worker.lake.manifests import read_manifest
from embed_worker.lake.parallel import in_parallel
from embed_worker.lake.snapshots import Pointer, RawManifest
from embed_worker.lake.store import Listed, Store

SNAPSHOT = re.compile(r"([0-9a-f]+)\.json")
PART = re.compile(r"([0-9a-f]+)\..+")


@dataclass
class RawFolder:
    """All that one way of reading has made of a dataset, as the listing shows it."""

    store: Store
    dataset: str
    ingest_id: str
    files: list[Listed]
    pointed: set[str] | None = None
    """Snapshots that its pointers name, and the delta between them; None where a pointer is damaged, or missing though
    there are snapshots."""
    cut: set[str] = field(default_factory=set)
    """Of these, those that are to be cut."""

    def __post_init__(self) -> None:
        try:
            base, latest = (read_manifest(self.store, path, Pointer) for path in self._pointers)
            delta = None
            if base is not None and latest is not None and base != latest:
                snapshots = base.snapshot, latest.snapshot
                delta = layout.delta_name(*snapshots)
                path = layout.delta_file(self.dataset, self.ingest_id, *snapshots)
                made = read_manifest(self.store, path, DeltaManifest)
        except BadManifest:
            return
        named = {pointer.snapshot for pointer in (base, latest) if pointer is not None}
        if named or not self.snapshots:
            self.pointed = named | ({delta} if delta else set())
            self.cut = {base.snapshot} if base is not None else named
            if delta and (made is None or made.rows):
                self.cut.add(delta)

    @property
    def snapshots(self) -> dict[str, Listed]:
        """Those that are committed."""
        inside = f"{self._path}/{layout.SNAPSHOTS}/"
        names = ((SNAPSHOT.fullmatch(file.path.removeprefix(inside)), file) for file in self.files)
        return {name[1]: file for name, file in names if name is not None}

    @property
    def unpointed(self) -> set[str]:
        """Snapshots that were committed after a pointer moved for the last time: one may be about to move."""
        moved = min((file.written for file in self.files if file.path in self._pointers), default=0.0)
        return {snapshot for snapshot, file in self.snapshots.items() if file.written > moved}

    def garbage(self, old: Sequence[str], kept_deltas: Collection[str], fresh: float) -> Iterator[tuple[str, str, int]]:
        """Path, why, bytes. `old`: snapshots that can go; `fresh`: when what nobody lists may be being written."""
        snapshots = self.snapshots
        inside = f"{self._path}/{layout.DELTAS}/"
        for file in self.files:
            delta = file.path.removeprefix(inside).split(".")[0]
            is_old = self.pointed is not None and delta not in kept_deltas and file.written <= fresh
            if is_old and file.path.startswith(inside):
                yield file.path, "delta between snapshots that no pointer names", file.bytes
        for snapshot in old:
            yield snapshots[snapshot].path, "no pointer names the snapshot", snapshots[snapshot].bytes
        kept = [snapshot for snapshot in snapshots if snapshot not in old]
        try:
            manifests = in_parallel(lambda snapshot: self._manifest(snapshots[snapshot].path), kept)
        except BadManifest:
            return  # it condemns nothing
        listed = {f"{self._path}/{file.path}" for manifest in manifests for file in manifest.listed}
        parts = {part.part_id for manifest in manifests for part in manifest.parts}
        records = {f"{self._path}/{layout.part_record(part)}" for part in parts}
        for file in self.files:
            name = file.path.removeprefix(f"{self._path}/")
            folder, _, name = name.partition("/")
            if file.path in listed or file.path in records or not PART.fullmatch(name) or file.written > fresh:
                continue
            if folder == layout.PARTS or (folder == layout.SNAPSHOTS and name.endswith(".parquet")):
                yield file.path, "no snapshot lists it", file.bytes

    @property
    def _path(self) -> str:
        return layout.raw_folder(self.dataset, self.ingest_id)

    @property
    def _pointers(self) -> tuple[str, str]:
        return layout.raw_base(self.dataset, self.ingest_id), layout.raw_latest(self.dataset, self.ingest_id)

    def _manifest(self, path: str) -> RawManifest:
        found = read_manifest(self.store, path, RawManifest)
        if found is None:
            raise BadManifest(f"{path} is gone")
        return found


def raw_folders(store: Store, files: Sequence[Listed]) -> list[RawFolder]:
    """Of all datasets."""
    found: dict[tuple[str, str], list[Listed]] = {}
    for file in files:
        parts = file.path.split("/")
        if len(parts) > 3 and re.fullmatch(r"[0-9a-f]+", parts[2]):
            found.setdefault((parts[1], parts[2]), []).append(file)
    return in_parallel(lambda key: RawFolder(store, *key, found[key]), sorted(found))
