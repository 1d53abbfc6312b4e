"""What the monitor knows of snapshots and strides: the manifests that say what is to be embedded."""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from pydantic import BaseModel

from embed_assets.monitor.facts import DATASET, RunKey, Strides
from embed_assets.monitor.lake import ReadOnlyLake, Version
from embed_worker.lake import damage
from embed_worker.lake.damage import Damage
from embed_worker.lake.errors import BadManifest
from embed_worker.lake.layout import MANIFEST, Partitioning, raw_folder, raw_latest, strides_folder
from embed_worker.lake.manifests import Latest, RawManifest, StridesManifest, read_manifest

M = TypeVar("M", bound=BaseModel)
T = TypeVar("T")


class Upstream:
    """Reads a file again only where it has changed, or could not be read."""

    def __init__(self, lake: ReadOnlyLake) -> None:
        self._lake = lake
        self._versions: dict[str, Version] = {}
        self._latest: dict[str, str] = {}
        """Dataset → its latest snapshot."""
        self._strides: dict[tuple[str, str], Strides] = {}
        """(dataset, partitioning) → what was last read of it."""
        self._damages: dict[str, Damage] = {}

    def look(self) -> None:
        self._damages.clear()
        for dataset in filter(DATASET.fullmatch, self._lake.list("stride_partitions")):
            if latest := self._read(raw_latest(dataset), Latest, lambda manifest: manifest.snapshot):
                self._latest[dataset] = latest
            if dataset in self._latest:
                self._read(f"{raw_folder(dataset, self._latest[dataset])}/{MANIFEST}", RawManifest, lambda _: None)
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
        return key.partitioning.split("-")[0] == self._latest.get(key.dataset)

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
