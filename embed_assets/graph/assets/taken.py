"""What a dataset's source has become: read, taken into the lake as its latest snapshot or its base, and recorded."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from pydantic import Field

from embed_assets.checks.fresh import source_fresh
from embed_assets.checks.outcome import CheckOutcome, run_checks
from embed_assets.checks.source import RAW_CHECKS, RawView
from embed_assets.graph.assets.guard import changes_against_latest, guard
from embed_assets.graph.dagster_events import PartitionRun
from embed_assets.graph.launch_config import LaunchConfig
from embed_assets.graph.provenance import Inputs
from embed_assets.spec import DatasetSpec
from embed_assets.tell.pace import Pace
from embed_assets.tell.snapshots import change_metadata, delta_metadata, snapshot_metadata
from embed_worker.lake import layout
from embed_worker.lake.deltas import DeltaManifest, no_delta
from embed_worker.lake.errors import BadManifest, NotReady
from embed_worker.lake.snapshots import RawManifest
from embed_worker.steps.difference import make_delta
from embed_worker.steps.raw import DamagedSnapshot, Ingested, ingest, take_base
from resources.lake import Lake


class SnapshotConfig(LaunchConfig):
    """What a launch may ask of raw_reviews."""

    sample_rows: int | None = Field(
        default=None, ge=1, description="Only the first so many rows, for a first try; all that follows is made of them"
    )
    force: bool = Field(default=False, description="Read the source anew even where it is unchanged")
    confirm: bool = Field(
        default=False, description="Take a snapshot that loses or changes more rows than max_removed and max_changed"
    )


@dataclass
class Taken:
    """The base and the latest snapshot of a dataset after a reading, and the delta between them."""

    run: PartitionRun
    lake: Lake
    dataset: DatasetSpec
    config: SnapshotConfig
    latest: RawManifest
    view: RawView
    """Of the latest."""
    adopted: bool
    """The latest was there already."""
    changes: dict[str, int]
    """Against the snapshot before, for people."""
    base: RawManifest
    delta: DeltaManifest

    def rebase_where_due(self) -> None:
        """Takes the latest snapshot as the base where the delta has outgrown it."""
        delta, limit = self.delta, self.dataset.rebase_above
        if delta.rows + delta.rows_removed > limit * delta.base_rows:
            take_base(self.lake.store, self.latest)
            self.run.tell(
                f"{self.dataset.name}: the delta adds {delta.rows:,} rows and removes {delta.rows_removed:,} of "
                f"{delta.base_rows:,}, more than rebase_above {limit:.0%}: snapshot {self.latest.snapshot} is the new "
                "base"
            )
            self.base, self.delta = self.latest, no_delta(self.latest)

    def version(self, *, of_delta: bool) -> str:
        """The data version of the base, or of the delta."""
        return self.delta.data_version if of_delta else self.base.snapshot

    def record(self, partition: str, inputs: Inputs, *, of_delta: bool) -> None:
        is_latest = of_delta or self.base.snapshot == self.latest.snapshot
        raw = self.latest if is_latest else self.base
        metadata = snapshot_metadata(self.lake, raw, self.adopted or not is_latest)
        if is_latest:
            metadata |= self.changes
        if of_delta:
            metadata |= delta_metadata(self.lake, self.delta)
        if self.config.sample_rows:
            metadata["sample_rows"] = self.config.sample_rows
        view = self.view if is_latest else view_of(self.lake, raw, self.dataset)
        self.run.committed(
            partition,
            data_version=self.version(of_delta=of_delta),
            metadata=metadata,
            inputs=inputs,
            checks=checked(view, self.run.selected_checks),
        )

    def look_whether_fresh(self, partition: str) -> None:
        """Of what is recorded already: time alone makes it stale."""
        if self.dataset.fresh_hours is not None:
            self.run.checked(partition, checked(self.view, ["source_fresh"]))


class Reading:
    """One reading of a dataset's source."""

    def __init__(self, run: PartitionRun, lake: Lake, dataset: DatasetSpec, config: SnapshotConfig) -> None:
        self._run, self._lake, self._dataset, self._config = run, lake, dataset, config
        self._changes: dict[str, int] = {}

    @property
    def has_base(self) -> bool:
        """Whether there is one of the range of rows that is asked for."""
        try:
            base = self._lake.base(self._dataset.name, self._dataset.ingest_id)
        except BadManifest:
            return False
        return base is not None and bool(base.ingest["rows"] == self._dataset.rows.model_dump(mode="json"))

    def take(self, *, keep_base: bool) -> Taken:
        """Makes the snapshot, or finds it made. Raises SourceError, LakeError; GuardedSnapshot where it is to be
        confirmed first."""
        made, view, adopted = self._made(keep_base)
        base = self._lake.base(self._dataset.name, self._dataset.ingest_id)
        if base is None:
            raise NotReady(f"raw_reviews of {self._dataset.name} is not in {self._lake.root}; materialize it first")
        return Taken(
            self._run, self._lake, self._dataset, self._config, latest=made, view=view, adopted=adopted,
            changes=self._changes, base=base, delta=make_delta(self._lake.store, base, made),
        )  # fmt: skip

    def _made(self, keep_base: bool) -> tuple[RawManifest, RawView, bool]:
        """The snapshot, and whether it was there and is whole."""
        lake, name = self._lake, self._dataset.name
        try:
            made = self._ingest(keep_base)
        except DamagedSnapshot as error:
            self._run.tell(f"{name}: {error}; it is removed and the source read anew", warning=True)
            lake.store.delete(error.path)
            made = self._ingest(keep_base)
        view = view_of(lake, made.manifest, self._dataset)
        if made.created:
            return made.manifest, view, False
        if self._config.force:
            return self._anew(made.manifest, {part.part_id for part in made.manifest.parts}, keep_base)
        if view.faults:
            self._run.tell(f"{name}: {view.faults[0]}; its manifest is retired and the source read anew", warning=True)
            return self._anew(made.manifest, view.broken, keep_base)
        self._run.tell(f"{name}: the source is unchanged, snapshot {made.manifest.snapshot} is adopted")
        return made.manifest, view, True

    def _ingest(self, keep_base: bool) -> Ingested:
        progress = Pace(self._dataset.name, self._run.tell)
        return ingest(self._lake.store, self._dataset, progress, keep_base=keep_base, agree=self._agree)

    def _anew(
        self, manifest: RawManifest, parts: Collection[str], keep_base: bool
    ) -> tuple[RawManifest, RawView, bool]:
        self._lake.store.delete(manifest.path)  # first: it lists what is about to go
        for part_id in parts:
            self._lake.store.delete(f"{manifest.folder}/{layout.part_record(part_id)}")
        made = self._ingest(keep_base).manifest
        return made, view_of(self._lake, made, self._dataset), False

    def _agree(self, manifest: RawManifest) -> None:
        found = changes_against_latest(self._lake, manifest)
        if found is None:
            return
        self._changes = change_metadata(found)
        if not self._config.confirm:
            guard(self._dataset, found)


def checked(view: RawView, names: Sequence[str]) -> dict[str, CheckOutcome]:
    """The named checks; `source_fresh` of datasets alone that give hours."""
    asked = [name for name in names if name in RAW_CHECKS or view.fresh_hours is not None]
    return run_checks({**RAW_CHECKS, "source_fresh": source_fresh}, asked, view)


def view_of(lake: Lake, raw: RawManifest, dataset: DatasetSpec) -> RawView:
    return RawView(lake.store, raw, max_rejects=dataset.max_rejects, fresh_hours=dataset.fresh_hours)
