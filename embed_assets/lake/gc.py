"""What of a lake nobody needs any more: old snapshots, leftovers of finished or dead attempts."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from embed_assets.lake import census
from embed_worker import layout
from embed_worker.job import EmbedJob
from embed_worker.manifests import (
    BadManifest,
    Latest,
    RawManifest,
    ShardManifest,
    StridesManifest,
    read_manifest,
)
from embed_worker.store import Store

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
    live: set[tuple[str, str]] = set()  # (partitioning name, partition)
    beats = list(census.heartbeats(store))
    for _, state in beats:
        if census.age_seconds(state) < LIVE_SECONDS and state.get("phase") not in ("committed", "stopped"):
            live.add((str(state.get("partitioning")), str(state.get("partition"))))
    live_snapshots = {name.split("-", 1)[0] for name, _ in live}
    old: set[tuple[str, str]] = set()
    datasets = set(census.datasets(store, "raw_reviews"))
    done: set[tuple[str, str, str]] = set()  # (spec id, partitioning name, partition)
    for dataset in sorted(datasets):
        latest = _latest(store, dataset)
        if latest is None:
            continue  # without a pointer nobody can say what is old
        for snapshot in census.snapshots(store, dataset):
            folder = layout.raw_folder(dataset, snapshot)
            if snapshot == latest or snapshot in live_snapshots:
                yield from _unlisted(store, folder, RawManifest)
            elif store.exists(f"{folder}/{layout.MANIFEST}") or store.idle_seconds(folder) > SCRATCH_SECONDS:
                old.add((dataset, snapshot))
                yield _folder(store, folder, f"snapshot is not the latest ({latest})")
    for dataset in census.datasets(store, "stride_partitions"):
        for partitioning in census.partitionings(store, dataset):
            folder = layout.strides_folder(dataset, partitioning)
            if (dataset, partitioning.snapshot) in old:
                yield _folder(store, folder, "strides of an old snapshot")
            else:
                yield from _unlisted(store, folder, StridesManifest)
    for place in census.shards(store):
        if store.exists(f"{place.folder}/{layout.MANIFEST}"):
            done.add((place.spec_id, place.partitioning.name, place.partition))
        if (place.partitioning.name, place.partition) in live:
            continue
        if (place.dataset, place.partitioning.snapshot) in old:
            yield _folder(store, place.folder, "shard of an old snapshot")
        elif (place.spec_id, place.partitioning.name, place.partition) in done:
            for name in store.list(place.folder):
                if name == "checkpoints" or name.startswith(layout.RETIRED):
                    yield _folder(store, f"{place.folder}/{name}", "left over: the partition is committed")
            yield from _unlisted(store, place.folder, ShardManifest)
    for path, state in beats:
        spec_id, cut, key = (str(state.get(name)) for name in ("spec_id", "partitioning", "partition"))
        dataset, snapshot = key.rpartition("-")[0], cut.split("-", 1)[0]
        over = (spec_id, cut, key) in done or dataset not in datasets or (dataset, snapshot) in old
        if over and census.age_seconds(state) >= LIVE_SECONDS:  # of a failed partition it is what the monitor knows
            yield _folder(store, path, f"heartbeat: {OVER}")
    for partition in store.list("jobs"):
        for name in store.list(f"jobs/{partition}"):
            path = f"jobs/{partition}/{name}"
            if not layout.is_temporary(name) and _is_over(store, path, datasets, old):
                yield _folder(store, path, f"job file: {OVER}")
    if store.is_local:
        for scratch in Path(store.path(".tmp")).glob("*"):
            if _age(store, f".tmp/{scratch.name}") > SCRATCH_SECONDS:
                yield _folder(store, f".tmp/{scratch.name}", "scratch of a process that died")


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


def _is_over(store: Store, path: str, datasets: set[str], old: set[tuple[str, str]]) -> bool:
    """A job that waits for a machine has no heartbeat: its manifest, a new snapshot or a removed dataset ends it."""
    try:
        job = EmbedJob.model_validate(store.read_json(path))
    except (FileNotFoundError, ValueError):
        return False
    if job.dataset not in datasets or (job.dataset, job.partitioning.split("-", 1)[0]) in old:
        return True
    return store.exists(job.manifest_path)


def _folder(store: Store, path: str, why: str) -> Garbage:
    return Garbage(path, why, sum(size for _, size in store.walk(path)))
