"""Proves a lake from its files alone: no pipeline, no Dagster, no worker's word."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from pydantic import BaseModel

from embed_assets.checks.outcome import run_checks
from embed_assets.checks.rows import ROW_CHECKS, RowsView
from embed_assets.checks.shard import SHARD_CHECKS, ShardView
from embed_assets.upkeep.deltas import prove_deltas
from embed_assets.upkeep.slices import SliceProof
from embed_assets.upkeep.wire import Wire
from embed_worker.lake import census, damage, layout
from embed_worker.lake.damage import Damage
from embed_worker.lake.errors import BadManifest
from embed_worker.lake.identity import RowsDigest
from embed_worker.lake.integrity import space_fault
from embed_worker.lake.job import EmbedJob
from embed_worker.lake.layout import Partitioning, ShardId
from embed_worker.lake.manifests import (
    MIN_COSINE,
    Canaries,
    ShardManifest,
    Space,
    StridesManifest,
    read_manifest,
)
from embed_worker.lake.parallel import in_parallel
from embed_worker.lake.sets import CurrentSet, SetManifest
from embed_worker.lake.snapshots import PartRecord, Pointer, RawManifest, SeenSource
from embed_worker.lake.store import Store

M = TypeVar("M", bound=BaseModel)

SHARD_CHECK_NAMES = [name for name in SHARD_CHECKS if name != "same_embedding_space"]  # that one may write
ROW_CHECK_NAMES = list(ROW_CHECKS)


@dataclass
class Report:
    """What was verified and what was found."""

    snapshots: int = 0
    partitionings: int = 0
    shards: int = 0
    unfinished: int = 0
    rows: int = 0
    vectors: int = 0
    bytes: int = 0
    """That came from the lake."""
    damages: list[Damage] = field(default_factory=list)


Progress = Callable[[str], None]


def verify_lake(store: Store, progress: Progress = lambda _: None) -> Report:
    """Reads every committed file. `progress` is told each place before it is read."""
    return _Verifier(store, progress).run()


class _Verifier:
    def __init__(self, store: Store, progress: Progress) -> None:
        self._wire = Wire(store)
        self._store, self._progress = self._wire.as_store(), progress
        self._report = Report()
        self._rows: dict[tuple[str, str], RowsDigest] = {}
        """(dataset, snapshot) → its rows."""
        self._current: dict[tuple[str, str], set[str]] = {}
        """(dataset, ingest id) → its base, and the delta that leads from it to the latest."""
        self._known_parts: set[tuple[str, str]] = set()
        """(folder, part id), looked at."""
        self._slices = SliceProof(self._store, self._report.damages, self._progress)
        self._canaries: dict[str, tuple[str, Canaries]] = {}
        self._inputs: dict[tuple[str, str, int, str], int] = {}
        """(dataset, partitioning, stride, digest of its rows) → rows, of each cut."""
        self._versions: dict[ShardId, str] = {}
        """Of each committed shard."""

    def run(self) -> Report:
        places = list(census.shards(self._store))
        for dataset in census.datasets(self._store, "raw_reviews"):
            self._raw(dataset)
        for dataset in census.datasets(self._store, "stride_partitions"):
            for ingest_id, partitioning in census.cuts(self._store, dataset):
                self._cuts(dataset, ingest_id, partitioning, [s for s in places if s.dataset == dataset])
        for place in places:
            self._shard(place)
        for path, _ in list(self._store.walk("embedding_sets")):
            if path.endswith(f"/{layout.CURRENT}"):
                self._set(path)
        for path, _ in list(self._store.walk("jobs")):
            if not layout.is_temporary(path):
                self._job(path)
        self._report.bytes = self._wire.bytes
        return self._report

    def _damage(self, where: str, what: str) -> None:
        self._report.damages.append(Damage(where, what))

    def _manifest(self, path: str, kind: type[M]) -> M | None:
        try:
            return read_manifest(self._store, path, kind)
        except BadManifest as error:
            self._report.damages.append(damage.of_manifest(self._store, path, error))
            return None

    def _raw(self, dataset: str) -> None:
        for ingest_id in census.ingests(self._store, dataset):
            there = census.snapshots(self._store, dataset, ingest_id)
            sound = {snapshot for snapshot in there if self._snapshot(dataset, ingest_id, snapshot)}
            named = list[str]()
            for path in (layout.raw_base(dataset, ingest_id), layout.raw_latest(dataset, ingest_id)):
                pointer = self._manifest(path, Pointer)
                named += [pointer.snapshot] if pointer is not None else []
                if pointer is not None and pointer.snapshot not in sound:
                    missing = layout.snapshot_file(dataset, ingest_id, pointer.snapshot)
                    self._damage(path, f"names a snapshot that has no sound {missing}")
                elif pointer is None and not self._store.exists(path) and sound:
                    self._damage(path, "is missing; materialize raw_reviews to restore it")
            self._manifest(layout.raw_seen(dataset, ingest_id), SeenSource)
            if len(named) == 2:
                self._current[dataset, ingest_id] = {named[0], layout.delta_name(*named)}
            prove_deltas(self._store, dataset, ingest_id, self._rows, self._report.damages)

    def _snapshot(self, dataset: str, ingest_id: str, snapshot: str) -> bool:
        """Whether its manifest is sound."""
        path = layout.snapshot_file(dataset, ingest_id, snapshot)
        self._progress(path)
        raw = self._manifest(path, RawManifest)
        if raw is None:
            return False
        if (raw.dataset, raw.ingest_id, raw.snapshot) != (dataset, ingest_id, snapshot):
            self._damage(path, f"belongs to {raw.dataset} {raw.ingest_id} {raw.snapshot}, not here")
            return False
        self._report.snapshots += 1
        self._rows[dataset, snapshot] = RowsDigest.parse(raw.rows, raw.rows_digest)
        self._checks(path, run_checks(ROW_CHECKS, ROW_CHECK_NAMES, RowsView(self._store, raw)).items())
        self._parts(raw)
        return True

    def _parts(self, raw: RawManifest) -> None:
        """Each part is committed as the snapshot has it; the records of parts are small."""
        new = [part for part in raw.parts if (raw.folder, part.part_id) not in self._known_parts]
        paths = [f"{raw.folder}/{layout.part_record(part.part_id)}" for part in new]
        for part, path, record in zip(new, paths, in_parallel(self._part, paths), strict=True):
            self._known_parts.add((raw.folder, part.part_id))
            if record is None:
                if not self._store.exists(path):
                    self._damage(path, f"is missing, but {raw.path} lists its part; materialize raw_reviews again")
            elif (record.part_id, record.file) != (part.part_id, part.file):
                self._damage(path, f"is not of the part that {raw.path} lists")

    def _part(self, path: str) -> PartRecord | None:
        return self._manifest(path, PartRecord)

    def _cuts(self, dataset: str, ingest_id: str, partitioning: Partitioning, shards: list[ShardId]) -> None:
        folder = layout.strides_folder(dataset, ingest_id, partitioning)
        names = [n for n in self._store.list(folder) if n.endswith(".json") and not layout.is_temporary(n)]
        for name in names:
            self._cut(f"{folder}/{name}", dataset, ingest_id, partitioning)
        current = self._current.get((dataset, ingest_id), set())
        if names or not current or not any(shard.partitioning == partitioning for shard in shards):
            return
        wanted = next(name for name in sorted(current) if ("-" in name) == (partitioning.method == layout.DELTA))
        self._damage(
            layout.cut_file(folder, wanted),
            "is missing, but shards are there that were made of it; materialize stride_partitions again",
        )

    def _cut(self, path: str, dataset: str, ingest_id: str, partitioning: Partitioning) -> None:
        cut = self._manifest(path, StridesManifest)
        if cut is None:
            return
        if (cut.dataset, cut.ingest_id, cut.partitioning) != (dataset, ingest_id, partitioning) or path != (
            layout.cut_file(cut.folder, cut.snapshot)
        ):
            self._damage(path, f"belongs to {cut.dataset} {cut.snapshot}, not here")
            return
        self._report.partitionings += 1
        rows = self._rows.get((dataset, cut.snapshot))
        if rows is None:
            self._damage(path, f"the snapshot {cut.snapshot} that it was cut from is not in the lake")
        for stride, entry in enumerate(cut.strides):
            self._inputs[dataset, partitioning.name, stride, entry.digest] = entry.rows
        self._slices.prove(path, cut)
        if rows is not None and rows != RowsDigest.parse(cut.rows, cut.rows_digest):
            self._damage(
                path, f"holds {cut.rows} rows with digest {cut.rows_digest}, the snapshot {rows.rows} with {rows}"
            )

    def _shard(self, place: ShardId) -> None:
        self._progress(place.folder)
        path = f"{place.folder}/{layout.MANIFEST}"
        manifest = self._manifest(path, ShardManifest)
        if manifest is None and not self._store.exists(path):
            self._report.unfinished += 1
            if "checkpoints" not in self._store.list(place.folder) and self._has_parquet(place.folder):
                self._damage(path, "is missing, but its part files are there; materialize the partition again")
        if manifest is None:
            return
        if (manifest.shard, manifest.spec.spec_id) != (
            place, place.spec_id,
        ):  # fmt: skip
            self._damage(path, f"belongs to {manifest.shard} of {manifest.shard.spec_id}, not here")
            return
        self._versions[place] = manifest.data_version
        rows = self._inputs.get((place.dataset, place.partitioning.name, place.stride, place.input_digest))
        if rows is not None and rows != manifest.rows_in:
            self._damage(path, f"says {manifest.rows_in} rows, its stride has {rows}")
        view = ShardView(self._store, place, manifest, RowsDigest.parse(manifest.rows_in, place.input_digest))
        self._checks(place.folder, run_checks(SHARD_CHECKS, SHARD_CHECK_NAMES, view).items())
        self._same_space(place, manifest)
        self._report.shards += 1
        self._report.rows += manifest.rows_in
        self._report.vectors += manifest.windows

    def _set(self, path: str) -> None:
        """The set that readers take names shards that are there as they were."""
        current = self._manifest(path, CurrentSet)
        if current is None:
            return
        made = f"{path.removesuffix(layout.CURRENT)}{current.set_digest}.json"
        found = self._manifest(made, SetManifest)
        if found is None:
            if not self._store.exists(made):
                self._damage(path, f"names {made}, which is not there; materialize embedding_set again")
            return
        if found.digest != current.set_digest:
            self._damage(made, "holds another set than its name says; materialize embedding_set again")
        for shard, one in found.members:
            if self._versions.get(shard) != one.data_version:
                self._damage(made, f"names {shard} as it is not in the lake; materialize embedding_set again")

    def _same_space(self, place: ShardId, manifest: ShardManifest) -> None:
        if manifest.canaries is None:
            return
        if place.spec_id not in self._canaries:
            self._canaries[place.spec_id] = self._reference(manifest)
        made_by, canaries = self._canaries[place.spec_id]
        try:
            cosine = canaries.worst_cosine(manifest.canaries)
        except ValueError as error:
            self._damage(f"{place.folder}/{layout.MANIFEST}", f"canaries: {error}")
            return
        if cosine < MIN_COSINE:
            self._damage(place.folder, f"another embedding space than {made_by}: canary cosine {cosine:.4f}")

    def _reference(self, manifest: ShardManifest) -> tuple[str, Canaries]:
        """Whose canary vectors those of a spec's shards are held against: the first shard's without a sound file."""
        assert manifest.canaries is not None
        path = layout.canaries_file(manifest.shard.spec_id)
        if fault := space_fault(self._store, manifest.shard.spec_id):
            self._damage(path, fault)
            return manifest.shard.key, manifest.canaries
        space = read_manifest(self._store, path, Space)
        assert space is not None
        return space.made_by, space.canaries

    def _job(self, path: str) -> None:
        """A job file is named by the digest of its job."""
        try:
            job = EmbedJob.model_validate(self._store.read_json(path))
        except ValueError as error:
            self._damage(path, f"is no job file: {' '.join(str(error).split())[:300]}")
            return
        if job.path != path:
            self._damage(path, "was changed, or belongs elsewhere: its job has another name; materialize it again")

    def _has_parquet(self, folder: str) -> bool:
        return any(path.endswith(".parquet") for path, _ in self._store.walk(folder))

    def _checks(self, where: str, outcomes: object) -> None:
        for name, outcome in outcomes:  # type: ignore[attr-defined]
            if not outcome.passed:
                self._damage(where, f"{name}: {outcome.description}")
