"""How far each dataset of a pipeline is, from the lake alone, by the monitor's rule of states."""

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TypeVar

from pydantic import BaseModel

from embed_assets.monitor.states import Manifest, State, alive, reason_of, rows_done, standing, state_of
from embed_assets.spec import DatasetSpec, EmbeddingPipeline
from embed_worker.lake import damage, layout
from embed_worker.lake.damage import Damage
from embed_worker.lake.deltas import DeltaManifest
from embed_worker.lake.errors import BadManifest
from embed_worker.lake.heartbeats import LastWord, Seen, read_progress
from embed_worker.lake.layout import ShardId
from embed_worker.lake.manifests import ShardManifest, StridesManifest, read_manifest
from embed_worker.lake.parallel import in_parallel
from embed_worker.lake.snapshots import Pointer, RawManifest
from embed_worker.lake.store import Store

M = TypeVar("M", bound=BaseModel)


@dataclass
class DatasetStatus:
    """One dataset of a pipeline."""

    pipeline: str
    dataset: str
    snapshot: str | None = None
    """The base."""
    latest: str | None = None
    """Where it is another."""
    rows: int = 0
    """Of the base."""
    rows_added: int = 0
    """By the delta."""
    rows_removed: int = 0
    rejects: int = 0
    strides_written: bool = False
    partitions: dict[str, State] = field(default_factory=dict)
    """Empty where damage leaves open which shards count: of a pointer, or of the cut."""
    reasons: dict[str, str] = field(default_factory=dict)
    """Partition → why its last attempt ended, or no other is made."""
    damages: list[Damage] = field(default_factory=list)
    rows_with_vector: int = 0
    rows_rejected: int = 0
    vectors: int = 0
    tokens: int = 0
    rows_in_hand: int = 0
    """In checkpoints of partitions that are not committed."""
    phases: dict[str, int] = field(default_factory=dict)
    """What the attempts that are alive are at, and how many."""

    @property
    def counts(self) -> Counter[State]:
        return Counter(self.partitions.values())


def pipeline_status(store: Store, pipeline: EmbeddingPipeline) -> list[DatasetStatus]:
    """The state of each dataset's newest snapshot; a damaged manifest hides no other.

    Raises StoreUnavailable where there is no such bucket or folder.
    """
    progress = _Progress(store, pipeline.embedding.spec_id)  # first: what it says of commits, the manifests then show
    return [_Look(store, pipeline, dataset, progress).status for dataset in pipeline.datasets]


class _Progress:
    """Heartbeats and drivers' words of one spec."""

    def __init__(self, store: Store, spec_id: str) -> None:
        self._store, self.now = store, store.now()
        self._beats: dict[ShardId, list[Seen]] = defaultdict(list)
        self._words: dict[ShardId, LastWord] = {}
        for _, found in read_progress(store):
            shard = found.shard
            if shard.spec_id != spec_id:
                continue
            if isinstance(found, Seen):
                self._beats[shard].append(found)
            elif shard not in self._words or self._words[shard].written < found.written:
                self._words[shard] = found

    def beats(self, shard: ShardId) -> list[Seen]:
        return self._beats.get(shard, [])

    def given_up(self, shard: ShardId) -> LastWord | None:
        if shard not in self._words:
            return None
        submitted = max((file.written for file in self._store.listing(f"jobs/{shard.key}")), default=None)
        return standing(self._words[shard], self.beats(shard), submitted)


@dataclass(frozen=True)
class _Figures:
    """What is kept of a shard's manifest."""

    with_vector: int
    rejected: int
    vectors: int
    tokens: int


class _Look:
    """Reads what the lake holds of one dataset."""

    def __init__(self, store: Store, pipeline: EmbeddingPipeline, dataset: DatasetSpec, progress: _Progress) -> None:
        self._store, self._dataset, self._progress = store, dataset, progress
        self._spec_id = pipeline.embedding.spec_id
        self.status = DatasetStatus(pipeline.name, dataset.name)
        base = self._manifest(layout.raw_base(dataset.name, dataset.ingest_id), Pointer)
        if base is not None:
            self._of_snapshot(base.snapshot)
        elif not self.status.damages:
            self.status.partitions = dict.fromkeys(dataset.stride_keys(), State.WAITING)

    def _of_snapshot(self, snapshot: str) -> None:
        status, name = self.status, self._dataset.name
        status.snapshot = snapshot
        raw = self._manifest(layout.snapshot_file(name, self._dataset.ingest_id, snapshot), RawManifest)
        if raw is not None:
            status.rows, status.rejects = raw.rows, sum(raw.rejects_by_reason.values())
        partitioning = self._dataset.cut
        folder = layout.strides_folder(name, self._dataset.ingest_id, partitioning)
        cut = self._manifest(layout.cut_file(folder, snapshot), StridesManifest)
        status.strides_written = cut is not None
        if cut is None:
            if not status.damages:
                status.partitions = dict.fromkeys(self._dataset.stride_keys(), State.WAITING)
            return
        entries = enumerate(cut.strides)
        shards = [ShardId.of(name, self._spec_id, partitioning, stride, entry.digest) for stride, entry in entries]
        shards += self._of_delta(snapshot)
        for shard, (found, given_up) in zip(shards, in_parallel(self._shard, shards), strict=True):
            self._of_partition(shard.key, self._progress.beats(shard), found, given_up)

    def _of_delta(self, base: str) -> list[ShardId]:
        """The shard of what the latest snapshot adds to the base; none where that is nothing."""
        name, ingest_id = self._dataset.name, self._dataset.ingest_id
        latest = self._manifest(layout.raw_latest(name, ingest_id), Pointer)
        if latest is None or latest.snapshot == base:
            return []
        self.status.latest = latest.snapshot
        delta = self._manifest(layout.delta_file(name, ingest_id, base, latest.snapshot), DeltaManifest)
        if delta is None:
            self.status.partitions[layout.delta_key(name)] = State.WAITING
            return []
        self.status.rows_added, self.status.rows_removed = delta.rows, delta.rows_removed
        return [ShardId.of(name, self._spec_id, layout.WHOLE, 0, delta.rows_digest)] if delta.rows else []

    def _of_partition(
        self, key: str, beats: list[Seen], found: _Figures | Damage | None, given_up: LastWord | None
    ) -> None:
        status, now = self.status, self._progress.now
        if isinstance(found, _Figures):
            status.partitions[key] = state_of(Manifest.SOUND, beats, now)
            status.rows_with_vector += found.with_vector
            status.rows_rejected += found.rejected
            status.vectors += found.vectors
            status.tokens += found.tokens
            return
        status.partitions[key] = state_of(Manifest.DAMAGED if found else Manifest.NONE, beats, now, given_up)
        living = [seen for seen in beats if alive(seen, now)]
        status.rows_in_hand += rows_done(beats, living)
        for seen in living:
            status.phases[seen.beat.phase] = status.phases.get(seen.beat.phase, 0) + 1
        if found is not None:
            status.damages.append(found)
        elif reason := reason_of(beats, given_up):
            status.reasons[key] = reason

    def _shard(self, shard: ShardId) -> tuple[_Figures | Damage | None, LastWord | None]:
        try:
            made = read_manifest(self._store, shard.manifest_path, ShardManifest)
        except BadManifest as error:
            return damage.of_manifest(self._store, shard.manifest_path, error), None
        if made is None:
            return None, self._progress.given_up(shard)
        return _Figures(made.rows_with_vector, made.rows_rejected, made.windows, made.tokens), None

    def _manifest(self, path: str, model: type[M]) -> M | None:
        try:
            return read_manifest(self._store, path, model)
        except BadManifest as error:
            self.status.damages.append(damage.of_manifest(self._store, path, error))
            return None
