"""What of a lake nobody needs any more: old snapshots, leftovers of finished or dead attempts."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from embed_assets.upkeep.leases import Leases
from embed_assets.upkeep.sets import SETS, read_sets
from embed_worker.lake import layout
from embed_worker.lake.census import shard_at
from embed_worker.lake.clock import now_by_writing
from embed_worker.lake.errors import BadManifest
from embed_worker.lake.layout import MANIFEST, Partitioning, ShardId
from embed_worker.lake.manifests import (
    Latest,
    RawManifest,
    ShardManifest,
    SliceManifest,
    StridesManifest,
    read_manifest,
)  # fmt: skip
from embed_worker.lake.parallel import in_parallel
from embed_worker.lake.store import Listed, Store

SCRATCH_SECONDS = 24 * 3600.0
"""What no manifest lists and has not changed for so long, nobody is writing: an ingest has no heartbeat."""
ASSETS = ("raw_reviews", "stride_partitions", "embedding_shards")

Manifest = type[RawManifest] | type[ShardManifest]


@dataclass(frozen=True)
class Garbage:
    """A file or folder that can go."""

    path: str
    why: str
    bytes: int


def find_garbage(store: Store) -> list[Garbage]:
    """Nothing that a manifest of a latest snapshot lists, and nothing that a live or awaited job reads or writes.

    Raises StoreUnavailable where there is no such bucket or folder.
    """
    return _Search(store).garbage()


def remove(store: Store, garbage: Iterable[Garbage]) -> None:
    in_parallel(lambda item: store.delete(item.path), list(garbage))


class _Folder:
    """A folder that one manifest commits, as the listing shows it."""

    def __init__(self, path: str) -> None:
        self.path, self.files = path, list[Listed]()

    @property
    def committed(self) -> bool:
        return any(file.path == f"{self.path}/{MANIFEST}" for file in self.files)

    @property
    def written(self) -> float:
        return max(file.written for file in self.files)

    def garbage(self, why: str) -> Garbage:
        return Garbage(self.path, why, sum(file.bytes for file in self.files))

    def part(self, name: str) -> "_Folder":
        """A folder or file in it."""
        found = _Folder(f"{self.path}/{name}")
        found.files = [f for f in self.files if f.path == found.path or f.path.startswith(f"{found.path}/")]
        return found


class _Search:
    """One listing of the lake, then what its pointers, manifests, jobs and heartbeats say."""

    def __init__(self, store: Store) -> None:
        self._store, self._now = store, now_by_writing(store)
        self._files = _listed(store)
        self._raw = self._folders("raw_reviews", 3)
        self._cut_folders = self._folders("stride_partitions", 4)
        self._shards = self._folders("embedding_shards", 6)
        self._committed = {shard for path, shard in _shards(self._shards) if self._shards[path].committed}
        self._leases = Leases(store, self._now, self._committed)  # after the listing: who began since is in it
        names = sorted({file.path.split("/")[1] for file in self._files["raw_reviews"]})
        self._latest = dict(zip(names, in_parallel(self._pointer, names), strict=True))
        """Dataset → its latest snapshot; None where that is not known."""
        in_the_making = {
            path.split("/")[2]
            for path, folder in self._raw.items()
            if not folder.committed and self._now - folder.written < SCRATCH_SECONDS
        }
        self._sets = read_sets(store, [file.path for file in self._files[SETS]])
        """Path of each set → the set, the current one of a dataset and spec, whether it is that."""
        self._cuts = self._read_cuts()
        near = {_rows_of(shard) for shard in self._leases.near}
        worked_on = {cut.snapshot for cut in self._cuts.values() if cut is not None and near & set(_strides(cut))}
        current = {found.snapshot for found, is_current in self._sets.values() if is_current}
        self._kept = in_the_making | worked_on | current
        """Snapshots that may be being written, that a run works on, or that readers' sets are made of."""
        self._needed = {s.shard_id(one.stride) for s, current in self._sets.values() if current for one in s.shards}
        self._needed_rows = {
            rows
            for cut in self._cuts.values()
            if cut is not None and not self._old(cut.dataset, cut.snapshot)
            for rows in _strides(cut)
        }
        """Of strides that are kept: their shards are, whatever the spec."""
        cut = {(c.dataset, c.snapshot) for c in self._cuts.values() if c is not None}
        unread = {path.split("/")[1] for path, c in self._cuts.items() if c is None}
        self._settled = {
            name for name, latest in self._latest.items() if latest and (name, latest) in cut and name not in unread
        }
        """Datasets whose latest snapshot is cut, so that it is known which shards are its own."""

    def garbage(self) -> list[Garbage]:
        notes = list(self._notes())
        found = [
            *self._snapshots(),
            *self._of_cuts(),
            *self._of_shards(),
            *self._old_sets(),
            *notes,
            *self._rest({item.path for item in notes}),
        ]
        folders = {item.path for item in found}
        if self._store.is_local:
            found += [item for item in self._temporaries() if not folders & set(_parents(item.path))]
        return found

    # -- rules -----------------------------------------------------------------------------------

    def _old(self, dataset: str, snapshot: str) -> bool:
        """Without a pointer nobody can say what is old."""
        latest = self._latest.get(dataset)
        return latest is not None and snapshot != latest and snapshot not in self._kept

    def _is_old(self, shard: ShardId) -> bool:
        needed = shard in self._needed or _rows_of(shard) in self._needed_rows
        return shard.dataset in self._settled and not needed

    def _snapshots(self) -> Iterator[Garbage]:
        whole: list[tuple[_Folder, Manifest]] = []
        for path, folder in self._raw.items():
            _, dataset, snapshot = path.split("/")
            if self._old(dataset, snapshot):
                yield folder.garbage(f"snapshot is not the latest ({self._latest[dataset]})")
            elif self._latest[dataset] is not None:
                whole.append((folder, RawManifest))
        yield from self._unlisted(whole)

    def _of_cuts(self) -> Iterator[Garbage]:
        """Commits of old cuts, and slices that no kept one lists."""
        for path, folder in self._cut_folders.items():
            dataset = path.split("/")[1]
            cuts = {at: cut for at, cut in self._cuts.items() if at.startswith(f"{path}/")}
            if self._latest.get(dataset) is None or None in cuts.values():
                continue
            whole = [cut for cut in cuts.values() if cut is not None]
            kept = [cut for cut in whole if not self._old(dataset, cut.snapshot)]
            for at, cut in cuts.items():
                if cut is not None and cut not in kept:
                    yield Garbage(at, "strides of an old snapshot", self._bytes(folder, at))
            listed = {name for cut in kept for name in cut.slices}
            settled = dataset in self._settled and bool(kept)
            commits = {f.path.rpartition("/")[2][:-5] for f in folder.files if _is_commit(f.path, f"{path}/slices")}
            for file in folder.files:
                if not file.path.startswith(f"{path}/slices/"):
                    continue
                name = file.path.rpartition("/")[2]
                slice_id = name.split(".")[0]
                lost = name.endswith(".claim") or (
                    name.endswith(".arrow") and slice_id in commits and self._is_loser(path, slice_id, file.path)
                )
                if (slice_id not in listed or lost) and (settled or self._now - file.written >= SCRATCH_SECONDS):
                    yield Garbage(file.path, "slice of no kept snapshot", file.bytes)

    def _is_loser(self, folder: str, slice_id: str, path: str) -> bool:
        try:
            made = read_manifest(self._store, layout.slice_file(folder, slice_id), SliceManifest)
        except BadManifest:
            return False
        return made is not None and f"{folder}/{made.file.path}" != path

    def _of_shards(self) -> Iterator[Garbage]:
        whole: list[tuple[_Folder, Manifest]] = []
        for path, shard in _shards(self._shards):
            folder = self._shards[path]
            if shard in self._leases.live:
                continue
            if self._is_old(shard):
                yield folder.garbage("shard of rows that no kept snapshot has")
            elif folder.committed:
                names = sorted({file.path.removeprefix(f"{path}/").split("/")[0] for file in folder.files})
                for name in names:
                    if name == "checkpoints" or name.startswith(layout.RETIRED):
                        yield folder.part(name).garbage("left over: the partition is committed")
                whole.append((folder, ShardManifest))
        yield from self._unlisted(whole)

    def _unlisted(self, folders: list[tuple[_Folder, Manifest]]) -> Iterator[Garbage]:
        """Parquet files in a committed folder that its manifest does not list: an attempt that died wrote them."""

        def ask(folder: tuple[_Folder, Manifest]) -> list[Garbage]:
            path, files = folder[0].path, folder[0].files
            inside = f"{path}/checkpoints/"
            candidates = [f for f in files if f.path.endswith(".parquet") and not f.path.startswith(inside)]
            if not candidates or not folder[0].committed:
                return []
            try:
                manifest = read_manifest(self._store, f"{path}/{MANIFEST}", folder[1])
            except BadManifest:
                return []  # it condemns nothing
            listed = {f"{path}/{file.path}" for file in manifest.listed} if manifest else None
            why = "its manifest does not list it"
            return [Garbage(f.path, why, f.bytes) for f in candidates if listed is not None and f.path not in listed]

        for found in in_parallel(ask, folders):
            yield from found

    def _old_sets(self) -> Iterator[Garbage]:
        for path, (found, current) in self._sets.items():
            if not current and self._old(found.dataset, found.snapshot):
                yield Garbage(path, "set of an old snapshot", self._size(path))

    def _notes(self) -> Iterator[Garbage]:
        """Heartbeats and job files of which nothing will come any more."""
        for kind, notes in (("heartbeat", self._leases.progress), ("job file", self._leases.jobs)):
            for note in notes:
                shard = note.shard
                if shard in self._leases.live:
                    continue
                if shard.dataset not in self._latest:
                    why = "its dataset is gone"
                elif self._is_old(shard):
                    why = "its rows are in no kept snapshot"
                elif shard in self._committed and not note.young:
                    why = "its partition is committed"
                else:
                    continue  # a failed one's last word is what the monitor knows
                yield Garbage(note.file.path, f"{kind}: {why}", note.file.bytes)

    def _rest(self, gone: set[str]) -> Iterator[Garbage]:
        """What is kept beside the assets for as long as these are there. `gone`: notes that are not."""
        specs = {shard.spec_id for _, shard in _shards(self._shards)}
        specs |= {note.shard.spec_id for note in self._leases.jobs if note.file.path not in gone}
        for file in self._files["embedding_spaces"]:
            name = file.path.rpartition("/")[2]
            if name.endswith(".json") and name.removesuffix(".json") not in specs and not layout.is_temporary(name):
                yield Garbage(file.path, "canary vectors: no shard is of this spec", file.bytes)
        names = {file.path.split("/")[1] for asset in ASSETS for file in self._files[asset]}
        names |= {shard.dataset for shard in self._leases.held}
        of_a_dataset = re.compile(rf"(?:{'|'.join(map(re.escape, sorted(names)))})-[0-9]{{5}}\..+\.json")
        for folder, what in (("costs", "cost of a job"), ("reserved", "dollars put aside for a job")):
            for file in self._files[folder]:
                name = file.path.rpartition("/")[2]
                if not of_a_dataset.fullmatch(name) and not layout.is_temporary(name):
                    yield Garbage(file.path, f"{what}: its dataset is gone", file.bytes)

    def _temporaries(self) -> Iterator[Garbage]:
        """Of processes that died; only a local disk has any."""
        root = Path(self._store.path(""))
        for scratch in sorted((root / ".tmp").glob("*")):
            name = f".tmp/{scratch.name}"
            files = [file for file in self._files[".tmp"] if file.path.startswith(f"{name}/")]
            times = [*(file.written for file in files), _changed(scratch)]
            if self._now - max(times) >= SCRATCH_SECONDS:
                yield Garbage(name, "scratch of a process that died", sum(file.bytes for file in files))
        for files in (files for name, files in self._files.items() if name != ".tmp"):
            for file in files:
                if layout.is_temporary(file.path) and self._now - file.written >= SCRATCH_SECONDS:
                    yield Garbage(file.path, "temporary file of a process that died", file.bytes)

    # -- reading ---------------------------------------------------------------------------------

    def _folders(self, asset: str, depth: int) -> dict[str, _Folder]:
        """The folders of an asset at a depth, without what lies beside them."""
        found: dict[str, _Folder] = {}
        for file in self._files[asset]:
            parts = file.path.split("/")
            if len(parts) > depth and not parts[depth - 1].startswith(("_", ".")):
                folder = "/".join(parts[:depth])
                found.setdefault(folder, _Folder(folder)).files.append(file)
        return found

    def _read_cuts(self) -> dict[str, StridesManifest | None]:
        """Path → cut; None of one that cannot be read: it condemns nothing."""
        paths = [f.path for path, folder in self._cut_folders.items() for f in folder.files if _is_commit(f.path, path)]

        def read(path: str) -> StridesManifest | None:
            try:
                return read_manifest(self._store, path, StridesManifest)
            except BadManifest:
                return None

        return dict(zip(paths, in_parallel(read, paths), strict=True))

    @staticmethod
    def _bytes(folder: "_Folder", path: str) -> int:
        return sum(file.bytes for file in folder.files if file.path == path)

    def _size(self, path: str) -> int:
        return sum(file.bytes for file in self._files[SETS] if file.path == path)

    def _pointer(self, dataset: str) -> str | None:
        try:
            latest = read_manifest(self._store, layout.raw_latest(dataset), Latest)
        except BadManifest:
            return None
        return latest.snapshot if latest else None


def _listed(store: Store) -> dict[str, list[Listed]]:
    """Files by their first folder."""
    if store.is_local:
        listings = [store.listing("")]
    else:
        datasets = zip(ASSETS, in_parallel(store.list, ASSETS), strict=True)
        folders = [f"{asset}/{name}" for asset, names in datasets for name in names]
        listings = in_parallel(store.listing, [*folders, SETS, "embedding_spaces", "costs", "reserved"])
    files: dict[str, list[Listed]] = defaultdict(list)
    for file in (file for listing in listings for file in listing):
        files[file.path.split("/")[0]].append(file)
    return files


def _shards(folders: Iterable[str]) -> Iterator[tuple[str, ShardId]]:
    """Those that are of shards."""
    for path in folders:
        if (shard := shard_at(path)) is not None:
            yield path, shard


Rows = tuple[str, Partitioning, int, str]
"""A dataset's stride, and the digest of its rows."""


def _rows_of(shard: ShardId) -> Rows:
    return shard.dataset, shard.partitioning, shard.stride, shard.input_digest


def _strides(cut: StridesManifest) -> Iterator[Rows]:
    for stride, entry in enumerate(cut.strides):
        yield cut.dataset, cut.partitioning, stride, entry.digest


def _is_commit(path: str, folder: str) -> bool:
    """Of a cut, in its folder."""
    return path.rpartition("/")[0] == folder and path.endswith(".json") and not layout.is_temporary(path)


def _parents(path: str) -> Iterator[str]:
    """A path and the folders it lies in."""
    while path:
        yield path
        path = path.rpartition("/")[0]


def _changed(path: Path) -> float:
    """When a file or folder of a local disk was changed; it may be gone."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return float("inf")
