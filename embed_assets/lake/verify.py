"""Proves a lake from its files alone: no pipeline, no Dagster, no worker's word."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

from pydantic import BaseModel

from embed_assets.checks.outcome import run_checks
from embed_assets.checks.rows import ROW_CHECKS, RowsView
from embed_assets.checks.shard import MIN_COSINE, SHARD_CHECKS, ShardView
from embed_assets.ingest.strides import content_digest
from embed_assets.lake import census
from embed_worker import layout
from embed_worker.layout import Partitioning
from embed_worker.manifests import (
    BadManifest,
    Canaries,
    RawManifest,
    ShardManifest,
    Space,
    StridesManifest,
    read_manifest,
)
from embed_worker.store import Store

M = TypeVar("M", bound=BaseModel)

SHARD_CHECK_NAMES = [name for name in SHARD_CHECKS if name != "same_embedding_space"]  # that one may write
ROW_CHECK_NAMES = list(ROW_CHECKS)


@dataclass(frozen=True)
class Damage:
    """Something that is not as its manifest says. `where` is a path in the lake."""

    where: str
    what: str


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
    damages: list[Damage] = field(default_factory=list)


Progress = Callable[[str], None]


def verify_lake(store: Store, progress: Progress = lambda _: None) -> Report:
    """Reads every committed file. `progress` is told each place before it is read."""
    return _Verifier(store, progress).run()


class _Verifier:
    def __init__(self, store: Store, progress: Progress) -> None:
        self._store, self._progress = store, progress
        self._report = Report()
        self._rows: dict[tuple[str, str], int] = {}
        self._canaries: dict[str, tuple[str, Canaries]] = {}

    def run(self) -> Report:
        for dataset in census.datasets(self._store, "raw_reviews"):
            self._raw(dataset)
        for dataset in census.datasets(self._store, "stride_partitions"):
            for partitioning in census.partitionings(self._store, dataset):
                self._strides(dataset, partitioning)
        for place in census.shards(self._store):
            self._shard(place)
        return self._report

    def _damage(self, where: str, what: str) -> None:
        self._report.damages.append(Damage(where, what))

    def _manifest(self, path: str, kind: type[M]) -> M | None:
        try:
            return read_manifest(self._store, path, kind)
        except BadManifest as error:
            self._damage(path, str(error))
            return None

    def _raw(self, dataset: str) -> None:
        for snapshot in census.snapshots(self._store, dataset):
            folder = layout.raw_folder(dataset, snapshot)
            self._progress(folder)
            raw = self._manifest(f"{folder}/{layout.MANIFEST}", RawManifest)
            if raw is None:
                continue  # not committed, or damaged and told
            self._report.snapshots += 1
            self._rows[dataset, snapshot] = raw.rows
            listed = [*raw.files, *([raw.rejects] if raw.rejects else [])]
            view = RowsView(self._store, folder, raw.files, range(raw.rows))
            self._checks(folder, run_checks(ROW_CHECKS, ROW_CHECK_NAMES, view).items())
            if raw.rejects:
                rejects = RowsView(self._store, folder, [raw.rejects], range(0))
                self._checks(folder, run_checks(ROW_CHECKS, ["files_intact"], rejects).items())
            self._report.bytes += sum(file.bytes for file in listed)
        latest = layout.raw_latest(dataset)
        try:
            snapshot = str(self._store.read_json(latest)["snapshot"])
            if (dataset, snapshot) not in self._rows:
                self._damage(latest, f"names snapshot {snapshot}, which is not committed")
        except FileNotFoundError:
            if any(known == dataset for known, _ in self._rows):
                self._damage(latest, "is missing; materialize raw_reviews to restore it")
        except (ValueError, KeyError, TypeError) as error:
            self._damage(latest, f"is not a pointer to a snapshot: {error}")

    def _strides(self, dataset: str, partitioning: Partitioning) -> None:
        folder = layout.strides_folder(dataset, partitioning)
        strides = self._manifest(f"{folder}/{layout.MANIFEST}", StridesManifest)
        if strides is None:
            return
        self._report.partitionings += 1
        known = self._rows.setdefault((dataset, partitioning.snapshot), strides.rows)
        if known != strides.rows:
            self._damage(f"{folder}/{layout.MANIFEST}", f"says {strides.rows} rows, the snapshot has {known}")
        if len(strides.strides) != partitioning.count:
            self._damage(f"{folder}/{layout.MANIFEST}", f"lists {len(strides.strides)} strides")
            return
        for stride, entry in enumerate(strides.strides):
            self._progress(f"{folder}/{stride:05d}")
            view = RowsView(self._store, folder, entry.files, _span(partitioning, stride, known))
            outcomes = run_checks(ROW_CHECKS, ROW_CHECK_NAMES, view)
            self._checks(f"{folder}/{stride:05d}", outcomes.items())
            if all(outcome.passed for outcome in outcomes.values()) and _digest(view) != entry.digest:
                self._damage(f"{folder}/{stride:05d}", "its rows are not those that the manifest's digest names")
            self._report.bytes += entry.bytes

    def _shard(self, place: census.ShardPlace) -> None:
        self._progress(place.folder)
        path = f"{place.folder}/{layout.MANIFEST}"
        manifest = self._manifest(path, ShardManifest)
        if manifest is None:
            self._report.unfinished += not self._store.exists(path)
            return
        if (manifest.dataset, manifest.stride, manifest.spec_id, manifest.spec.spec_id) != (
            place.dataset, place.stride, place.spec_id, place.spec_id,
        ):  # fmt: skip
            self._damage(path, f"belongs to {manifest.partition} of {manifest.spec_id}, not here")
            return
        rows = self._rows.get((place.dataset, place.partitioning.snapshot))
        if rows is None:
            self._damage(path, f"neither the snapshot {place.partitioning.snapshot} nor its strides are in the lake")
            return
        view = ShardView(self._store, place.folder, manifest, _span(place.partitioning, place.stride, rows))
        self._checks(place.folder, run_checks(SHARD_CHECKS, SHARD_CHECK_NAMES, view).items())
        self._same_space(place, manifest)
        self._report.shards += 1
        self._report.rows += manifest.rows_in
        self._report.vectors += manifest.chunks
        self._report.bytes += sum(file.bytes for file in manifest.files)

    def _same_space(self, place: census.ShardPlace, manifest: ShardManifest) -> None:
        if manifest.canaries is None:
            return
        if place.spec_id not in self._canaries:
            space = self._manifest(layout.canaries_file(place.spec_id), Space)
            known = (space.made_by, space.canaries) if space else (manifest.partition, manifest.canaries)
            self._canaries[place.spec_id] = known
        made_by, canaries = self._canaries[place.spec_id]
        try:
            cosine = canaries.worst_cosine(manifest.canaries)
        except ValueError as error:
            self._damage(f"{place.folder}/{layout.MANIFEST}", f"canaries: {error}")
            return
        if cosine < MIN_COSINE:
            self._damage(place.folder, f"another embedding space than {made_by}: canary cosine {cosine:.4f}")

    def _checks(self, where: str, outcomes: object) -> None:
        for name, outcome in outcomes:  # type: ignore[attr-defined]
            if not outcome.passed:
                self._damage(where, f"{name}: {outcome.description}")


def _span(partitioning: Partitioning, stride: int, rows: int) -> range:
    span = partitioning.row_ids(stride, rows)
    assert isinstance(span, range)
    return span


def _digest(view: RowsView) -> str:
    import pyarrow as pa
    import pyarrow.parquet as pq

    tables = []
    for file in view.files:
        with view.store.open(f"{view.folder}/{file.path}") as source:
            tables.append(pq.read_table(source, columns=["row_id", "id", "text"]))
    return content_digest(pa.concat_tables(tables))


def damages(report: Report) -> Iterator[str]:
    for damage in report.damages:
        yield f"{damage.where}: {damage.what}"
