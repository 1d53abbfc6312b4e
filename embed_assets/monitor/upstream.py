"""What the monitor knows of snapshots and strides: the manifests that say what is to be embedded."""

import re
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from pydantic import BaseModel

from embed_assets.monitor.facts import DATASET, RunKey, Strides
from embed_assets.monitor.lake import ReadOnlyLake, Version
from embed_worker.lake import damage
from embed_worker.lake.damage import Damage
from embed_worker.lake.errors import BadManifest
from embed_worker.lake.layout import MANIFEST, Partitioning, raw_base, snapshot_file, strides_folder
from embed_worker.lake.manifests import StridesManifest, read_manifest
from embed_worker.lake.snapshots import Pointer, RawManifest

M = TypeVar("M", bound=BaseModel)
T = TypeVar("T")

ID = re.compile(r"[0-9a-f]+")


class Upstream:
    """Reads a file again only where it has changed, or could not be read."""

    def __init__(self, lake: ReadOnlyLake) -> None:
        self._lake = lake
        self._versions: dict[str, Version] = {}
        self._bases: dict[tuple[str, str], str] = {}
        """(dataset, ingest id) → its base."""
        self._strides: dict[tuple[str, str], Strides] = {}
        """(dataset, partitioning) → what was last read of it."""
        self._damages: dict[str, Damage] = {}

    def look(self) -> None:
        self._damages.clear()
        for dataset in filter(DATASET.fullmatch, self._lake.list("stride_partitions")):
            for ingest_id in filter(ID.fullmatch, self._lake.list(f"raw_reviews/{dataset}")):
                if base := self._read(raw_base(dataset, ingest_id), Pointer, lambda manifest: manifest.snapshot):
                    self._bases[dataset, ingest_id] = base
                if snapshot := self._bases.get((dataset, ingest_id)):
                    self._read(snapshot_file(dataset, ingest_id, snapshot), RawManifest, lambda _: None)
            for name in self._lake.list(f"stride_partitions/{dataset}"):
                try:
                    partitioning = Partitioning.parse(name)
                except ValueError:
                    continue
                path = f"{strides_folder(dataset, partitioning)}/{MANIFEST}"
                if strides := self._read(path, StridesManifest, _strides_of(partitioning)):
                    self._strides[dataset, name] = strides

    @property
    def damages(self) -> list[Damage]:
        return sorted(self._damages.values())

    def knows(self, key: RunKey) -> bool:
        return (key.dataset, key.partitioning) in self._strides

    def strides(self, key: RunKey) -> Strides | None:
        return self._strides.get((key.dataset, key.partitioning))

    def is_latest(self, key: RunKey) -> bool:
        snapshot = key.partitioning.split("-")[0]
        return any(dataset == key.dataset and snapshot == base for (dataset, _), base in self._bases.items())

    def wanted(self, beating: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
        """Dataset → partitionings of its latest snapshot, and those that a heartbeat is of."""
        found: dict[str, list[str]] = {}
        beating = set(beating)
        for dataset, name in sorted(self._strides):
            if (dataset, name) in beating or self.is_latest(RunKey(dataset, "", name)):
                found.setdefault(dataset, []).append(name)
        return found

    def newest(self) -> Iterator[tuple[str, Strides | None]]:
        """Each dataset with the youngest cut of its latest snapshot."""
        for dataset in sorted({dataset for dataset, _ in self._strides}):
            cuts = [s for (d, name), s in self._strides.items() if d == dataset and self.is_latest(RunKey(d, "", name))]
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


def _strides_of(partitioning: Partitioning) -> Callable[[StridesManifest], Strides]:
    return lambda manifest: Strides.of(partitioning, manifest)
