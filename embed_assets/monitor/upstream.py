"""What the monitor knows of snapshots and strides: the manifests that say what is to be embedded."""

import re
from collections.abc import Callable, Iterator
from typing import TypeVar

from pydantic import BaseModel

from embed_assets.monitor.facts import DATASET, RunKey, Strides
from embed_assets.monitor.lake import ReadOnlyLake, Version
from embed_worker.lake import damage
from embed_worker.lake.damage import Damage
from embed_worker.lake.errors import BadManifest
from embed_worker.lake.layout import (
    DELTA,
    Partitioning,
    ShardId,
    delta_name,
    raw_base,
    raw_latest,
    snapshot_file,
    strides_folder,
)
from embed_worker.lake.manifests import StridesManifest, read_manifest
from embed_worker.lake.snapshots import Pointer, RawManifest

M = TypeVar("M", bound=BaseModel)
T = TypeVar("T")

DIGEST = re.compile(r"[0-9a-f]+")


class Upstream:
    """Reads a file again only where it has changed, or could not be read."""

    def __init__(self, lake: ReadOnlyLake) -> None:
        self._lake = lake
        self._versions: dict[str, Version] = {}
        self._bases: dict[tuple[str, str], str] = {}
        """(dataset, ingest id) → its base."""
        self._latest: dict[tuple[str, str], str] = {}
        """The same of its latest snapshot."""
        self._cuts: dict[str, Strides] = {}
        """Path → what was last read of it."""
        self._strides: dict[tuple[str, str], Strides] = {}
        """(dataset, cut) → that of the base, else the youngest; of a delta, that of the base and the latest alone."""
        self._damages: dict[str, Damage] = {}

    def look(self) -> None:
        self._damages.clear()
        for dataset in filter(DATASET.fullmatch, self._lake.list("stride_partitions")):
            for ingest_id in filter(DIGEST.fullmatch, self._lake.list(f"stride_partitions/{dataset}")):
                self._look_at_pointers(dataset, ingest_id)
                for name in self._lake.list(f"stride_partitions/{dataset}/{ingest_id}"):
                    try:
                        folder = strides_folder(dataset, ingest_id, Partitioning.parse(name))
                    except ValueError:
                        continue
                    self._look_at_cuts(dataset, ingest_id, folder)

    def _look_at_pointers(self, dataset: str, ingest_id: str) -> None:
        if base := self._read(raw_base(dataset, ingest_id), Pointer, lambda pointer: pointer.snapshot):
            self._bases[dataset, ingest_id] = base
        if latest := self._read(raw_latest(dataset, ingest_id), Pointer, lambda pointer: pointer.snapshot):
            self._latest[dataset, ingest_id] = latest
        if base := self._bases.get((dataset, ingest_id)):
            self._read(snapshot_file(dataset, ingest_id, base), RawManifest, lambda _: None)

    def _look_at_cuts(self, dataset: str, ingest_id: str, folder: str) -> None:
        paths = [f"{folder}/{name}" for name in self._lake.list(folder) if name.endswith(".json")]
        for gone in [path for path in self._cuts if path.startswith(f"{folder}/") and path not in paths]:
            del self._cuts[gone]
        for path in paths:
            if cut := self._read(path, StridesManifest, Strides.of):
                self._cuts[path] = cut
        cuts = [self._cuts[path] for path in paths if path in self._cuts]
        if folder.endswith(f"/{DELTA}"):
            wanted = self._snapshot(dataset, ingest_id, of_delta=True)
            self._strides.pop((dataset, f"{ingest_id}-{DELTA}"), None)
            cuts = [cut for cut in cuts if cut.snapshot == wanted]
        if cuts:
            base = self._bases.get((dataset, ingest_id))
            newest = max(cuts, key=lambda cut: (cut.snapshot == base, cut.created_at))
            self._strides[dataset, newest.cut] = newest

    def _snapshot(self, dataset: str, ingest_id: str, *, of_delta: bool) -> str | None:
        """What is to be cut: the base, or the delta that leads from it to the latest."""
        base, latest = (known.get((dataset, ingest_id)) for known in (self._bases, self._latest))
        return delta_name(base or "", latest or "") if of_delta else base

    @property
    def damages(self) -> list[Damage]:
        return sorted(self._damages.values())

    def key_of(self, shard: ShardId) -> RunKey | None:
        """The run whose rows a shard is of."""
        for (dataset, cut), strides in self._strides.items():
            if dataset == shard.dataset and cut.endswith(shard.partitioning.name) and strides.has(shard):
                return RunKey(dataset, shard.spec_id, cut)
        return None

    def strides(self, key: RunKey) -> Strides | None:
        return self._strides.get((key.dataset, key.cut))

    def is_latest(self, key: RunKey) -> bool:
        strides = self.strides(key)
        if strides is None:
            return False
        return strides.snapshot == self._snapshot(key.dataset, key.cut.split("-")[0], of_delta=strides.of_delta)

    def delta(self, key: RunKey) -> Strides | None:
        """What the delta adds to the base of a run."""
        return self._strides.get((key.dataset, f"{key.cut.split('-')[0]}-{DELTA}"))

    def wanted(self) -> dict[str, list[str]]:
        """Dataset → its cuts."""
        found: dict[str, list[str]] = {}
        for dataset, cut in sorted(self._strides):
            found.setdefault(dataset, []).append(cut)
        return found

    def newest(self) -> Iterator[tuple[str, Strides | None]]:
        """Each dataset with the youngest cut of its base."""
        for dataset in sorted({dataset for dataset, _ in self._strides}):
            bases = [(cut, s) for (d, cut), s in self._strides.items() if d == dataset and not s.of_delta]
            cuts = [s for cut, s in bases if self.is_latest(RunKey(dataset, "", cut))]
            yield dataset, max(cuts, key=lambda cut: cut.created_at, default=None)

    def _read(self, path: str, model: type[M], keep: Callable[[M], T]) -> T | None:
        """None where nothing new is there to keep."""
        version = self._lake.version(path)
        if version is None or self._versions.get(path) == version:
            return None
        try:
            manifest = read_manifest(self._lake, path, model)
            kept = keep(manifest) if manifest is not None else None
        except (BadManifest, ValueError) as error:
            told = error if isinstance(error, BadManifest) else BadManifest("holds a number beyond all reason")
            self._damages[path] = damage.of_manifest(self._lake, path, told)
            return None
        self._versions[path] = version
        return kept
