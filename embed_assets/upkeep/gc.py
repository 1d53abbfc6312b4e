"""What of a lake nobody needs any more: old snapshots, leftovers of finished or dead attempts."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embed_worker.lake import census, layout
from embed_worker.lake.errors import BadManifest
from embed_worker.lake.job import EmbedJob
from embed_worker.lake.manifests import Latest, RawManifest, ShardManifest, StridesManifest, read_manifest
from embed_worker.lake.store import Store

LIVE_SECONDS = 15 * 60.0
"""A job that was heard of within this time still needs its snapshot and its checkpoints."""
SCRATCH_SECONDS = 24 * 3600.0
"""What no manifest lists and has not changed for so long, nobody is writing: an ingest has no heartbeat."""
OVER = "its partition is committed, its snapshot old, or its dataset gone"


@dataclass(frozen=True)
class Garbage:
    """A file or folder that can go."""

    path: str
    why: str
    bytes: int


def find_garbage(store: Store) -> Iterator[Garbage]:
    """Nothing that a manifest of a latest snapshot lists, and nothing that a live job reads or writes."""
    found = []
    for item in _needless(store):
        found.append(item.path)
        yield item
    for item in _temporaries(store):
        if not any(item.path == path or item.path.startswith(f"{path}/") for path in found):
            yield item


def _needless(store: Store) -> Iterator[Garbage]:
    needs = _Needs(store)
    yield from _snapshots(store, needs)
    yield from _strides(store, needs)
    yield from _shards(store, needs)
    for path, state in needs.beats:
        key = _attempt_of(state)
        if needs.over(*key) and census.age_seconds(state) >= LIVE_SECONDS:  # a failed one is what the monitor knows
            yield _folder(store, path, f"heartbeat: {OVER}")
    for path, job in _job_files(store):
        if needs.over(job.shard.spec_id, job.shard.partitioning.name, job.shard.key):
            yield _folder(store, path, f"job file: {OVER}")
    if store.is_local:
        for scratch in Path(store.path(".tmp")).glob("*"):
            if _age(store, f".tmp/{scratch.name}") > SCRATCH_SECONDS:
                yield _folder(store, f".tmp/{scratch.name}", "scratch of a process that died")


class _Needs:
    """What of a lake is live, latest or committed."""

    def __init__(self, store: Store) -> None:
        self.beats = list(census.heartbeats(store))
        self.live: set[tuple[str, str]] = set()
        """(partitioning name, partition) of attempts that were heard of."""
        self.committed: set[tuple[str, str, str]] = set()
        """(spec id, partitioning name, partition); whole once `_shards` has been through."""
        for _, state in self.beats:
            if census.age_seconds(state) < LIVE_SECONDS and state.get("phase") not in ("committed", "stopped"):
                self.live.add(_attempt_of(state)[1:])
        self.latest = {dataset: _latest(store, dataset) for dataset in census.datasets(store, "raw_reviews")}
        self._kept = {name.split("-", 1)[0] for name, _ in self.live}
        for dataset in self.latest:
            for snapshot in census.snapshots(store, dataset):
                folder = layout.raw_folder(dataset, snapshot)
                if not store.exists(f"{folder}/{layout.MANIFEST}") and store.idle_seconds(folder) <= SCRATCH_SECONDS:
                    self._kept.add(snapshot)  # an ingest may be writing it

    def old(self, dataset: str, snapshot: str) -> bool:
        """Without a pointer nobody can say what is old."""
        latest = self.latest.get(dataset)
        return latest is not None and snapshot != latest and snapshot not in self._kept

    def over(self, spec_id: str, partitioning: str, partition: str) -> bool:
        """Whether nothing will come of a job any more. One that waits for a machine has no heartbeat."""
        dataset, snapshot = partition.rpartition("-")[0], partitioning.split("-", 1)[0]
        committed = (spec_id, partitioning, partition) in self.committed
        return committed or dataset not in self.latest or self.old(dataset, snapshot)


def _snapshots(store: Store, needs: _Needs) -> Iterator[Garbage]:
    for dataset, latest in needs.latest.items():
        for snapshot in census.snapshots(store, dataset):
            folder = layout.raw_folder(dataset, snapshot)
            if needs.old(dataset, snapshot):
                yield _folder(store, folder, f"snapshot is not the latest ({latest})")
            elif latest is not None:
                yield from _unlisted(store, folder, RawManifest)


def _strides(store: Store, needs: _Needs) -> Iterator[Garbage]:
    for dataset in census.datasets(store, "stride_partitions"):
        for partitioning in census.partitionings(store, dataset):
            folder = layout.strides_folder(dataset, partitioning)
            if needs.old(dataset, partitioning.snapshot):
                yield _folder(store, folder, "strides of an old snapshot")
            else:
                yield from _unlisted(store, folder, StridesManifest)


def _shards(store: Store, needs: _Needs) -> Iterator[Garbage]:
    for place in census.shards(store):
        committed = store.exists(f"{place.folder}/{layout.MANIFEST}")
        if committed:
            needs.committed.add((place.spec_id, place.partitioning.name, place.key))
        if (place.partitioning.name, place.key) in needs.live:
            continue
        if needs.old(place.dataset, place.partitioning.snapshot):
            yield _folder(store, place.folder, "shard of an old snapshot")
        elif committed:
            for name in store.list(place.folder):
                if name == "checkpoints" or name.startswith(layout.RETIRED):
                    yield _folder(store, f"{place.folder}/{name}", "left over: the partition is committed")
            yield from _unlisted(store, place.folder, ShardManifest)


def _job_files(store: Store) -> Iterator[tuple[str, EmbedJob]]:
    """(path, job) of every job file that can be read."""
    for partition in store.list("jobs"):
        for name in store.list(f"jobs/{partition}"):
            if layout.is_temporary(name):
                continue
            path = f"jobs/{partition}/{name}"
            try:
                yield path, EmbedJob.model_validate(store.read_json(path))
            except (FileNotFoundError, ValueError):
                continue


def _attempt_of(state: dict[str, Any]) -> tuple[str, str, str]:
    """Spec id, partitioning name and partition of a heartbeat."""
    return str(state.get("spec_id")), str(state.get("partitioning")), str(state.get("partition"))


def _unlisted(
    store: Store, folder: str, kind: type[RawManifest] | type[StridesManifest] | type[ShardManifest]
) -> Iterator[Garbage]:
    """Parquet files in a committed folder that its manifest does not list: an attempt that died wrote them."""
    names = [(path, size) for path, size in store.walk(folder) if path.endswith(".parquet")]
    try:
        manifest = read_manifest(store, f"{folder}/{layout.MANIFEST}", kind)
    except BadManifest:
        return
    if manifest is None:
        return
    listed = {f"{folder}/{file.path}" for file in manifest.listed}
    for path, size in names:
        if path not in listed and not path.startswith(f"{folder}/checkpoints/"):
            yield Garbage(path, "its manifest does not list it", size)


def _temporaries(store: Store) -> Iterator[Garbage]:
    if not store.is_local:
        return
    for path, size in store.walk(""):
        if layout.is_temporary(path) and _age(store, path) > SCRATCH_SECONDS:
            yield Garbage(path, "temporary file of a process that died", size)


def _age(store: Store, path: str) -> float:
    """Seconds since a file or folder of a local lake was changed; 0 where it is gone."""
    try:
        return time.time() - Path(store.path(path)).stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _latest(store: Store, dataset: str) -> str | None:
    try:
        latest = read_manifest(store, layout.raw_latest(dataset), Latest)
    except BadManifest:
        return None
    return latest.snapshot if latest else None


def _folder(store: Store, path: str, why: str) -> Garbage:
    return Garbage(path, why, sum(size for _, size in store.walk(path)))
