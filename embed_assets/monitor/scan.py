"""Reads a lake again and again at little cost: one listing of the heartbeats, then only what has changed.

A manifest is read once, when a heartbeat says that it is there or a census finds its folder. A census (every
`CENSUS_SECONDS`) lists the folders, so that partitions without heartbeats are found too.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import islice

from embed_assets.monitor.facts import (
    NAME,
    Beat,
    Cost,
    RunKey,
    Shard,
    Strides,
    beat_of,
    cost_of,
    run_of,
    shard_of,
    strides_of,
)
from embed_assets.monitor.lake import ReadOnlyLake, Version
from embed_worker.lake.layout import MANIFEST, Partitioning, raw_latest, strides_folder

CENSUS_SECONDS = 60.0
MAX_BEAT_BYTES = 64 * 1024
RECHECKED = 32
"""Known manifests that a census looks at again, so that a retired one is missed before long."""


@dataclass
class Seen:
    """A heartbeat with what its changes show: a clock that is wrong on its machine does no harm."""

    beat: Beat
    first_seen: float
    changed: float | None = None
    """When this process last saw it change."""

    def age(self, now: float) -> float:
        """Seconds since it was written, as far as that can be known."""
        if self.changed is not None:
            return max(0.0, now - self.changed)
        told = now - self.beat.at if self.beat.at is not None else 0.0
        return max(0.0, told, now - self.first_seen)


@dataclass
class Run:
    """What the lake holds of one coherent set of vectors."""

    key: RunKey
    strides: Strides
    current: bool
    """Of the dataset's latest snapshot and its most recent spec."""
    shards: dict[int, Shard] = field(default_factory=dict)
    beats: dict[int, list[Seen]] = field(default_factory=dict)


@dataclass
class Found:
    """One look at the lake."""

    at: float
    seconds: float
    runs: list[Run]
    costs: list[Cost]
    submitted: frozenset[str]
    """Partitions that have a job file."""


class Scanner:
    """Keeps between two looks what cannot have changed. One thread calls it."""

    def __init__(self, lake: ReadOnlyLake, clock: Callable[[], float] = time.time) -> None:
        self.lake, self._clock = lake, clock
        self._versions: dict[str, Version] = {}
        self._seen: dict[str, Seen] = {}
        self._strides: dict[tuple[str, str], Strides] = {}
        self._latest: dict[str, str] = {}
        self._shards: dict[RunKey, dict[int, Shard]] = {}
        self._missing: set[tuple[RunKey, int]] = set()
        """Asked for since the last census and not there."""
        self._census_at = float("-inf")
        self._cost_versions: dict[str, Version] = {}
        self._costs: dict[str, Cost] = {}
        self._submitted: frozenset[str] = frozenset()
        self._turn = 0

    def look(self) -> Found:
        now = self._clock()
        begun = time.monotonic()
        self._read_beats(now)
        unknown = any((s.beat.run.dataset, s.beat.run.partitioning) not in self._strides for s in self._seen.values())
        if now - self._census_at >= CENSUS_SECONDS or (unknown and now - self._census_at >= CENSUS_SECONDS / 6):
            self._census(now)
        self._read_shards(
            (s.beat.run, s.beat.stride)
            for s in self._seen.values()
            if s.beat.over and (s.beat.run, s.beat.stride) not in self._missing
        )
        return Found(now, time.monotonic() - begun, self._runs(), list(self._costs.values()), self._submitted)

    def _read_beats(self, now: float) -> None:
        listed = {
            path: version for path, version in self.lake.find("progress").items() if version.bytes <= MAX_BEAT_BYTES
        }
        for gone in self._versions.keys() - listed.keys():
            del self._versions[gone]
            self._seen.pop(gone, None)
        changed = [path for path, version in listed.items() if self._versions.get(path) != version]
        for path, value in self.lake.read_all(changed).items():
            self._versions[path] = listed[path]
            beat = beat_of(value)
            if beat is None or path != f"progress/{beat.partition}/{beat.attempt}.json":
                continue
            self._missing.discard((beat.run, beat.stride))
            known = self._seen.get(path)
            if known is None:
                self._seen[path] = Seen(beat, now)
            elif beat != known.beat:
                known.beat, known.changed = beat, now

    def _census(self, now: float) -> None:
        self._census_at = now
        self._missing.clear()
        self._submitted = frozenset(path.split("/")[1] for path in self.lake.find("jobs"))
        self._read_costs()
        datasets = [name for name in self.lake.list("stride_partitions") if run_of(name, "x", "0-stride-00001")]
        for dataset in datasets:
            latest = self.lake.read_json(raw_latest(dataset))
            if isinstance(latest, dict):
                self._latest[dataset] = str(latest.get("snapshot"))
            self._read_strides(dataset)
        wanted: list[tuple[RunKey, int]] = []
        busy = {
            (s.beat.run, s.beat.stride) for s in self._seen.values() if not s.beat.over and s.age(now) < CENSUS_SECONDS
        }
        for dataset in datasets:
            for spec_id in filter(NAME.fullmatch, self.lake.list(f"embedding_shards/{dataset}")):
                for partitioning in self._wanted(dataset):
                    key = RunKey(dataset, spec_id, partitioning)
                    there = {int(name) for name in self.lake.list(key.folder) if name.isdigit()}
                    known = self._shards.setdefault(key, {})
                    for gone in known.keys() - there:
                        del known[gone]
                    wanted += [(key, stride) for stride in there - known.keys() if (key, stride) not in busy]
        self._read_shards(wanted)
        self._check_again()

    def _wanted(self, dataset: str) -> list[str]:
        """Partitionings of the latest snapshot, and those that a heartbeat is of."""
        beating = {s.beat.run.partitioning for s in self._seen.values() if s.beat.run.dataset == dataset}
        latest = self._latest.get(dataset)
        return sorted(p for d, p in self._strides if d == dataset and (p in beating or p.split("-")[0] == latest))

    def _read_strides(self, dataset: str) -> None:
        for name in self.lake.list(f"stride_partitions/{dataset}"):
            try:
                partitioning = Partitioning.parse(name)
            except ValueError:
                continue
            if (dataset, name) in self._strides:
                continue
            value = self.lake.read_json(f"{strides_folder(dataset, partitioning)}/{MANIFEST}")
            if strides := strides_of(dataset, name, value):
                self._strides[dataset, name] = strides

    def _read_costs(self) -> None:
        listed = self.lake.find("costs")
        changed = [path for path, version in listed.items() if self._cost_versions.get(path) != version]
        for path, value in self.lake.read_all(changed).items():
            self._cost_versions[path] = listed[path]
            if cost := cost_of(value):
                self._costs[path] = cost

    def _read_shards(self, places: Iterable[tuple[RunKey, int]]) -> None:
        asked = {p for p in places if p[1] not in self._shards.setdefault(p[0], {})}
        paths = {f"{key.folder}/{stride:05d}/{MANIFEST}": (key, stride) for key, stride in asked}
        found = self.lake.read_all(paths)
        for path, (key, stride) in paths.items():
            if shard := shard_of(found.get(path)):
                self._shards[key][stride] = shard
            else:
                self._missing.add((key, stride))

    def _check_again(self) -> None:
        """A few manifests in turn, and those of partitions on which an attempt works that has no part in them."""
        known = [(key, stride) for key, shards in self._shards.items() for stride in shards]
        again = set(islice([*known, *known], self._turn, self._turn + RECHECKED))
        self._turn = (self._turn + RECHECKED) % max(1, len(known))
        for seen in self._seen.values():
            shard = self._shards.get(seen.beat.run, {}).get(seen.beat.stride)
            if shard and not seen.beat.over and seen.beat.attempt not in shard.attempts:
                again.add((seen.beat.run, seen.beat.stride))
        paths = {f"{key.folder}/{stride:05d}/{MANIFEST}": (key, stride) for key, stride in again}
        found = self.lake.read_all(paths)
        for path, (key, stride) in paths.items():
            if path not in found:
                del self._shards[key][stride]

    def _runs(self) -> list[Run]:
        runs: dict[RunKey, Run] = {}
        recent: dict[RunKey, float] = {}

        def note(key: RunKey, at: float) -> Run | None:
            strides = self._strides.get((key.dataset, key.partitioning))
            if strides is None:
                return None
            recent[key] = max(at, recent.get(key, 0.0))
            return runs.setdefault(key, Run(key, strides, False))

        for key, shards in self._shards.items():
            run = note(key, max((s.created or 0.0 for s in shards.values()), default=0.0))
            if run:
                run.shards = {n: s for n, s in shards.items() if n < len(run.strides.rows)}
        for seen in self._seen.values():
            run = note(seen.beat.run, seen.beat.at or 0.0)
            if run and seen.beat.stride < len(run.strides.rows):
                run.beats.setdefault(seen.beat.stride, []).append(seen)
        for dataset in {d for d, _ in self._strides}:
            snapshot = self._latest.get(dataset)
            mine = [k for k in runs if k.dataset == dataset and k.partitioning.split("-")[0] == snapshot]
            if mine:
                runs[max(mine, key=lambda k: (recent[k], k))].current = True
                continue
            cuts = [s for (d, p), s in self._strides.items() if d == dataset and p.split("-")[0] == snapshot]
            if cuts:
                newest = max(cuts, key=lambda s: s.created)
                key = RunKey(dataset, "none-yet", newest.partitioning)
                runs[key] = Run(key, newest, True)
        return [runs[key] for key in sorted(runs)]
