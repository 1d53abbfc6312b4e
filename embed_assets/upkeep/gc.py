"""What of a lake nobody needs any more: old snapshots, leftovers of finished or dead attempts."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from embed_assets.upkeep.cuts import cut_folders, rows_of, strides_of
from embed_assets.upkeep.leases import Leases
from embed_assets.upkeep.raw import raw_folders
from embed_assets.upkeep.sets import SETS, read_sets
from embed_worker.lake import layout
from embed_worker.lake.census import shard_at
from embed_worker.lake.clock import now_by_writing
from embed_worker.lake.errors import BadManifest
from embed_worker.lake.layout import MANIFEST, ShardId
from embed_worker.lake.manifests import ShardManifest, read_manifest
from embed_worker.lake.parallel import in_parallel
from embed_worker.lake.sets import SetManifest
from embed_worker.lake.store import Listed, Store

SCRATCH_SECONDS = 24 * 3600.0
"""What no manifest lists and has not changed for so long, nobody is writing: an ingest has no heartbeat."""
ASSETS = ("raw_reviews", "stride_partitions", "embedding_shards")


@dataclass(frozen=True)
class Garbage:
    """A file or folder that can go."""

    path: str
    why: str
    bytes: int


def find_garbage(store: Store, keep_sets: Mapping[str, int] = MappingProxyType({})) -> list[Garbage]:
    """Nothing that a snapshot lists to which a pointer leads, and nothing that a live or awaited job reads or writes,
    or that one of the youngest sets is made of: `keep_sets` says how many of a dataset, 1 without a word.

    Raises StoreUnavailable where there is no such bucket or folder.
    """
    return _Search(store, keep_sets).garbage()


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

    def __init__(self, store: Store, keep_sets: Mapping[str, int]) -> None:
        self._store, self._now = store, now_by_writing(store)
        self._files = _listed(store)
        self._shards = self._folders("embedding_shards", 6)
        self._committed = {shard for path, shard in _shards(self._shards) if self._shards[path].committed}
        self._leases = Leases(store, self._now, self._committed)  # after the listing: who began since is in it
        self._raw = raw_folders(store, self._files["raw_reviews"])
        self._current: dict[str, set[str] | None] = {}
        """Dataset → the snapshots that its pointers name, with their delta; None where one of them is not known."""
        for folder in self._raw:
            known = self._current.setdefault(folder.dataset, set())
            named = folder.pointed
            self._current[folder.dataset] = None if known is None or named is None else known | named
        self._sets = read_sets(store, [file.path for file in self._files[SETS]], keep_sets)
        """Path of each set → the set, and whether it is kept."""
        self._cuts = cut_folders(store, self._files["stride_partitions"])
        cuts = [cut for folder in self._cuts for cut in folder.cuts.values() if cut is not None]
        near = {rows_of(shard) for shard in self._leases.near}
        self._kept = {snapshot for folder in self._raw for snapshot in folder.unpointed}
        self._kept |= {cut.snapshot for cut in cuts if not near.isdisjoint(strides_of(cut))}
        self._kept |= {name for found, current in self._sets.values() if current for name in _snapshots_of(found)}
        """Snapshots that may be being written, that a run works on, or that readers' sets are made of."""
        self._needed = {shard for s, current in self._sets.values() if current for shard, _ in s.members}
        self._rows = {rows for cut in cuts if not self._old(cut.dataset, cut.snapshot) for rows in strides_of(cut)}
        """Of strides that are kept: their shards are, whatever the spec."""
        cut_snapshots = {(cut.dataset, cut.snapshot) for cut in cuts}
        unread = {folder.dataset for folder in self._cuts if None in folder.cuts.values()}
        uncut = {raw.dataset for raw in self._raw if any((raw.dataset, one) not in cut_snapshots for one in raw.cut)}
        self._settled = {
            name for name, snapshots in self._current.items() if snapshots and name not in unread and name not in uncut
        }
        """Datasets whose current snapshots are cut, so that it is known which shards are theirs."""

    def garbage(self) -> list[Garbage]:
        notes = list(self._notes())
        found = [
            *self._snapshots(),
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
        current = self._current.get(dataset)
        return bool(current) and snapshot not in (current or ()) and snapshot not in self._kept

    def _is_old(self, shard: ShardId) -> bool:
        needed = shard in self._needed or rows_of(shard) in self._rows
        return shard.dataset in self._settled and not needed

    def _snapshots(self) -> Iterator[Garbage]:
        for raw in self._raw:
            old = [snapshot for snapshot in raw.snapshots if self._old(raw.dataset, snapshot)]
            kept = self._kept | (raw.pointed or set())
            for path, why, size in raw.garbage(old, kept, self._now - SCRATCH_SECONDS):
                yield Garbage(path, why, size)
        for cuts in self._cuts:
            if self._current.get(cuts.dataset) is None:
                continue
            settled = cuts.dataset in self._settled
            found = cuts.garbage(lambda cut: self._old(cut.dataset, cut.snapshot), settled, self._now - SCRATCH_SECONDS)
            for path, why, size in found:
                yield Garbage(path, why, size)

    def _of_shards(self) -> Iterator[Garbage]:
        whole: list[_Folder] = []
        for path, shard in _shards(self._shards):
            folder = self._shards[path]
            if shard in self._leases.live or shard in self._leases.bases:
                continue
            if self._is_old(shard):
                yield folder.garbage("shard of rows that no kept snapshot has")
            elif folder.committed:
                names = sorted({file.path.removeprefix(f"{path}/").split("/")[0] for file in folder.files})
                for name in names:
                    if name == "checkpoints" or name.startswith(layout.RETIRED):
                        yield folder.part(name).garbage("left over: the partition is committed")
                whole.append(folder)
        yield from self._unlisted(whole)

    def _unlisted(self, folders: list[_Folder]) -> Iterator[Garbage]:
        """Parquet files in a committed folder that its manifest does not list: an attempt that died wrote them."""

        def ask(folder: _Folder) -> list[Garbage]:
            inside = f"{folder.path}/checkpoints/"
            candidates = [f for f in folder.files if f.path.endswith(".parquet") and not f.path.startswith(inside)]
            if not candidates:
                return []
            try:
                manifest = read_manifest(self._store, f"{folder.path}/{MANIFEST}", ShardManifest)
            except BadManifest:
                return []  # it condemns nothing
            listed = {f"{folder.path}/{file.path}" for file in manifest.listed} if manifest else None
            why = "its manifest does not list it"
            return [Garbage(f.path, why, f.bytes) for f in candidates if listed is not None and f.path not in listed]

        for found in in_parallel(ask, folders):
            yield from found

    def _old_sets(self) -> Iterator[Garbage]:
        for path, (_, kept) in self._sets.items():
            if not kept:
                yield Garbage(path, "set that another has followed", self._size(path))

    def _notes(self) -> Iterator[Garbage]:
        """Heartbeats and job files of which nothing will come any more."""
        for kind, notes in (("heartbeat", self._leases.progress), ("job file", self._leases.jobs)):
            for note in notes:
                shard = note.shard
                if shard in self._leases.live:
                    continue
                if shard.dataset not in self._current:
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
        of_a_dataset = re.compile(
            rf"(?:{'|'.join(map(re.escape, sorted(names)))})-(?:[0-9]{{5}}|{layout.DELTA})\..+\.json"
        )
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

    def _size(self, path: str) -> int:
        return sum(file.bytes for file in self._files[SETS] if file.path == path)


def _snapshots_of(found: SetManifest) -> set[str]:
    """All that a set is made of: the base, and with a delta the latest and the delta."""
    if found.delta is None:
        return {found.snapshot}
    return {found.snapshot, found.latest, layout.delta_name(found.snapshot, found.latest)}


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
