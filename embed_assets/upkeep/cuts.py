"""What of stride_partitions nobody needs any more: cuts of old snapshots, slices that no kept cut lists."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from embed_worker.lake import layout
from embed_worker.lake.errors import BadManifest
from embed_worker.lake.layout import Partitioning, ShardId
from embed_worker.lake.manifests import SliceManifest, StridesManifest, read_manifest
from embed_worker.lake.parallel import in_parallel
from embed_worker.lake.store import Listed, Store

Rows = tuple[str, Partitioning, int, str]
"""A dataset's stride, and the digest of its rows."""


def rows_of(shard: ShardId) -> Rows:
    return shard.dataset, shard.partitioning, shard.stride, shard.input_digest


def strides_of(cut: StridesManifest) -> Iterator[Rows]:
    for stride, entry in enumerate(cut.strides):
        yield cut.dataset, cut.partitioning, stride, entry.digest


@dataclass
class CutFolder:
    """All cuts of a dataset in one way, as the listing shows them."""

    store: Store
    path: str
    files: list[Listed] = field(default_factory=list)
    cuts: dict[str, StridesManifest | None] = field(default_factory=dict)
    """Path → cut; None of one that cannot be read: it condemns nothing."""

    @property
    def dataset(self) -> str:
        return self.path.split("/")[1]

    def read(self) -> "CutFolder":
        commits = [file.path for file in self.files if _commits(file.path, self.path)]
        self.cuts = dict(zip(commits, map(self._cut, commits), strict=True))
        return self

    def garbage(
        self, is_old: Callable[[StridesManifest], bool], settled: bool, fresh: float
    ) -> Iterator[tuple[str, str, int]]:
        """Path, why, bytes. `settled`: no cut is to come for which a slice may have been made; else those can go that
        were written before `fresh`."""
        if None in self.cuts.values():
            return
        kept = {name: cut for name, cut in self.cuts.items() if cut is not None and not is_old(cut)}
        listed = {name for cut in kept.values() for name in cut.slices}
        names = (file.path.rpartition("/")[2] for file in self.files if _commits(file.path, self._slices))
        commits = {name.removesuffix(".json") for name in names}
        for file in self.files:
            if file.path in self.cuts:
                if file.path not in kept:
                    yield file.path, "strides of an old snapshot", file.bytes
            elif file.path.startswith(f"{self._slices}/") and not layout.is_temporary(file.path):
                slice_id, _, kind = file.path.rpartition("/")[2].partition(".")
                lost = kind.endswith("claim") or (
                    kind.endswith("arrow") and slice_id in commits and self._is_anothers(slice_id, file.path)
                )
                if (slice_id not in listed or lost) and (settled or file.written < fresh):
                    yield file.path, "no kept snapshot has the slice", file.bytes

    @property
    def _slices(self) -> str:
        return f"{self.path}/slices"

    def _cut(self, path: str) -> StridesManifest | None:
        try:
            return read_manifest(self.store, path, StridesManifest)
        except BadManifest:
            return None

    def _is_anothers(self, slice_id: str, path: str) -> bool:
        """Whether the commit of a slice names another file: who made this one was second."""
        try:
            made = read_manifest(self.store, layout.slice_file(self.path, slice_id), SliceManifest)
        except BadManifest:
            return False
        return made is not None and f"{self.path}/{made.file.path}" != path


def _commits(path: str, folder: str) -> bool:
    return path.rpartition("/")[0] == folder and path.endswith(".json") and not layout.is_temporary(path)


def cut_folders(store: Store, files: Sequence[Listed]) -> list[CutFolder]:
    """Of all datasets."""
    found: dict[str, CutFolder] = {}
    for file in files:
        parts = file.path.split("/")
        if len(parts) > 4:
            path = "/".join(parts[:4])
            found.setdefault(path, CutFolder(store, path)).files.append(file)
    return in_parallel(CutFolder.read, list(found.values()))
