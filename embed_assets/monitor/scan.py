"""Reads a lake again and again at little cost: one listing of the heartbeats, then only what has changed.

A manifest is read once, when a heartbeat says that it is there or a full look finds its folder. A full look (every
`FULL_SECONDS`) lists all folders, so that partitions without heartbeats are found too.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice

import orjson
from pydantic import ValidationError

from embed_assets.estimate.costs import JobCost
from embed_assets.monitor.facts import SPEC_ID, RunKey, Shard, Strides
from embed_assets.monitor.lake import ReadOnlyLake, Version
from embed_assets.monitor.upstream import Upstream
from embed_worker.lake import damage, heartbeats
from embed_worker.lake.damage import Damage
from embed_worker.lake.errors import BadManifest
from embed_worker.lake.heartbeats import GivenUp, Heartbeat, LastWord, Seen
from embed_worker.lake.layout import ShardId
from embed_worker.lake.manifests import ShardManifest, read_manifest
from embed_worker.lake.parallel import in_parallel

FULL_SECONDS = 60.0
RECHECKED = 32
"""Known manifests that a full look reads again, so that one that was retired or damaged is missed before long."""


@dataclass
class Run:
    """What the lake holds of one coherent set of vectors."""

    key: RunKey
    strides: Strides
    current: bool
    """Of the dataset's latest snapshot and its most recent spec."""
    shards: dict[int, Shard] = field(default_factory=dict)
    damaged: dict[int, Damage] = field(default_factory=dict)
    beats: dict[int, list[Seen]] = field(default_factory=dict)
    given_up: dict[int, LastWord] = field(default_factory=dict)


@dataclass
class Found:
    """One look at the lake."""

    at: float
    """By the store's clock, as all times here."""
    seconds: float
    runs: list[Run]
    costs: list[JobCost]
    submitted: Mapping[str, float]
    """Partition → when its last job file was written."""
    damages: list[Damage]
    """Of snapshots and strides; those of shards are in their runs."""


class Scanner:
    """Keeps between two looks what cannot have changed. One thread calls it."""

    def __init__(self, lake: ReadOnlyLake, clock: Callable[[], float] = time.time) -> None:
        self.lake, self._clock = lake, clock
        self._upstream = Upstream(lake)
        self._offset = 0.0
        self._versions: dict[str, Version] = {}
        self._seen: dict[str, Seen] = {}
        self._words: dict[str, LastWord] = {}
        self._shards: dict[RunKey, dict[int, Shard | Damage]] = {}
        self._missing: set[tuple[RunKey, int]] = set()
        """Asked for since the last full look and not there."""
        self._full_at = float("-inf")
        self._cost_versions: dict[str, Version] = {}
        self._costs: dict[str, JobCost] = {}
        self._submitted: dict[str, float] = {}
        self._turn = 0

    def look(self) -> Found:
        begun, own = time.monotonic(), self._clock()
        full = own - self._full_at >= FULL_SECONDS
        if full:
            self._offset = self.lake.clock_offset()
        now = own + self._offset
        self._read_progress(now)
        unknown = any(self._upstream.key_of(seen.shard) is None for seen in self._seen.values())
        if full or (unknown and own - self._full_at >= FULL_SECONDS / 6):
            self._full_at = own
            self._look_everywhere(now)
        over = {place for s in self._seen.values() if s.beat.over and (place := self._place(s.shard))}
        self._read_shards(over - self._missing)
        return Found(
            at=now,
            seconds=time.monotonic() - begun,
            runs=self._runs(),
            costs=list(self._costs.values()),
            submitted=self._submitted,
            damages=self._upstream.damages,
        )

    def _read_progress(self, now: float) -> None:
        listed = {
            path: version
            for path, version in self.lake.find(heartbeats.FOLDER).items()
            if version.bytes <= heartbeats.MAX_BYTES
        }
        for gone in self._versions.keys() - listed.keys():
            for known in (self._versions, self._seen, self._words):
                known.pop(gone, None)
        changed = [path for path, version in listed.items() if self._versions.get(path) != version]
        for path, data in self.lake.read_all(changed).items():
            # What changes between two looks was written just now, whatever the store's clock says.
            again, self._versions[path] = path in self._versions, listed[path]
            told = listed[path].written
            written = now if again or told is None else min(told, now)
            found = heartbeats.parse(path, data)
            if isinstance(found, Heartbeat):
                if (place := self._place(found.shard)) is not None:
                    self._missing.discard(place)
                self._seen[path] = Seen(found, written)
            elif isinstance(found, GivenUp):
                self._words[path] = LastWord(found, written)

    def _look_everywhere(self, now: float) -> None:
        self._missing.clear()
        self._submitted = {}
        for path, version in self.lake.find("jobs").items():
            partition = path.split("/")[1]
            self._submitted[partition] = max(version.written or 0.0, self._submitted.get(partition, 0.0))
        self._read_costs()
        self._upstream.look()
        wanted: set[tuple[RunKey, int]] = set()
        for dataset, cuts in self._upstream.wanted().items():
            for spec_id in filter(SPEC_ID.fullmatch, self.lake.list(f"embedding_shards/{dataset}")):
                for key in (RunKey(dataset, spec_id, cut) for cut in cuts):
                    there = {int(name) for name in self.lake.list(key.folder) if name.isdigit()}
                    known = self._shards.setdefault(key, {})
                    for gone in known.keys() - there:
                        del known[gone]
                    wanted |= {(key, stride) for stride in there - known.keys()}
        self._read_shards(wanted)
        self._check_again()

    def _read_costs(self) -> None:
        listed = self.lake.find("costs")
        for gone in self._cost_versions.keys() - listed.keys():
            del self._cost_versions[gone]
            self._costs.pop(gone, None)
        changed = [path for path, version in listed.items() if self._cost_versions.get(path) != version]
        for path, data in self.lake.read_all(changed).items():
            self._cost_versions[path] = listed[path]
            try:
                self._costs[path] = JobCost.model_validate(orjson.loads(data))
            except (orjson.JSONDecodeError, ValidationError):
                continue

    def _read_shards(self, places: Iterable[tuple[RunKey, int]]) -> None:
        """Those that are not known."""
        self._read([place for place in places if place[1] not in self._shards.setdefault(place[0], {})])

    def _check_again(self) -> None:
        """A few manifests in turn, the damaged ones, and those at which an attempt works that has no part in them."""
        known = [(key, stride) for key, shards in self._shards.items() for stride in shards]
        again = set(islice([*known, *known], self._turn, self._turn + RECHECKED))
        self._turn = (self._turn + RECHECKED) % max(1, len(known))
        again |= {(key, stride) for key, stride in known if isinstance(self._shards[key][stride], Damage)}
        for seen in self._seen.values():
            if (place := self._place(seen.shard)) is None:
                continue
            shard = self._shards.get(place[0], {}).get(place[1])
            if isinstance(shard, Shard) and not seen.beat.over and seen.beat.attempt not in shard.attempts:
                again.add(place)
        self._read(sorted(again))

    def _read(self, places: list[tuple[RunKey, int]]) -> None:
        for (key, stride), shard in zip(places, in_parallel(self._shard, places), strict=True):
            if shard is not None:
                self._shards[key][stride] = shard
            else:
                self._shards[key].pop(stride, None)
                self._missing.add((key, stride))

    def _shard(self, place: tuple[RunKey, int]) -> Shard | Damage | None:
        key, stride = place
        strides = self._upstream.strides(key)
        if strides is None or stride >= len(strides.digests):
            return None
        path = strides.shard(key.spec_id, stride).manifest_path
        try:
            manifest = read_manifest(self.lake, path, ShardManifest)
        except BadManifest as error:
            return damage.of_manifest(self.lake, path, error)
        return Shard.of(manifest) if manifest is not None else None

    def _place(self, shard: ShardId) -> tuple[RunKey, int] | None:
        """None of a shard whose rows no cut has any more."""
        key = self._upstream.key_of(shard)
        return (key, shard.stride) if key is not None else None

    def _runs(self) -> list[Run]:
        runs: dict[RunKey, Run] = {}
        recent: dict[RunKey, float] = {}

        def note(key: RunKey, at: float) -> Run | None:
            strides = self._upstream.strides(key)
            if strides is None:
                return None
            recent[key] = max(at, recent.get(key, 0.0))
            return runs.setdefault(key, Run(key, strides, False))

        for key, shards in self._shards.items():
            times = (s.created or 0.0 for s in shards.values() if isinstance(s, Shard))
            run = note(key, max(times, default=0.0))
            for stride, shard in shards.items():
                if run and stride < len(run.strides.rows):
                    if isinstance(shard, Shard):
                        run.shards[stride] = shard
                    else:
                        run.damaged[stride] = shard
        for seen in self._seen.values():
            key_of = self._upstream.key_of(seen.shard)
            run = note(key_of, seen.written) if key_of else None
            if run:
                run.beats.setdefault(seen.shard.stride, []).append(seen)
        for last in self._words.values():
            key_of = self._upstream.key_of(last.shard)
            run = note(key_of, last.written) if key_of else None
            if run:
                known = run.given_up.get(last.shard.stride)
                if known is None or known.written < last.written:
                    run.given_up[last.shard.stride] = last
        for dataset, newest in self._upstream.newest():
            latest = [k for k, run in runs.items() if k.dataset == dataset and self._upstream.is_latest(k)]
            mine = [k for k in latest if not runs[k].strides.of_delta]
            if mine:
                key = max(mine, key=lambda k: (recent[k], k))
                runs[key].current = True
            elif newest is not None:
                key = RunKey(dataset, "none-yet", newest.cut)
                runs[key] = Run(key, newest, True)
            else:
                continue
            if (delta := self._upstream.delta(key)) is not None:
                of_delta = RunKey(dataset, key.spec_id, delta.cut)
                runs.setdefault(of_delta, Run(of_delta, delta, True)).current = True
        return [runs[key] for key in sorted(runs)]
