"""raw_reviews: of each dataset a base, and a delta: what the source has become since. Parts are read once."""

from collections.abc import Collection, Iterator, Sequence
from typing import Any, Literal

import dagster as dg
from pydantic import Field

from embed_assets.checks.fresh import raw_checks, source_fresh
from embed_assets.checks.outcome import CheckOutcome, all_failed, run_checks
from embed_assets.checks.source import RAW_CHECKS, RawView
from embed_assets.graph.assets.guard import changes_against_latest, guard
from embed_assets.graph.dagster_events import PartitionRun
from embed_assets.graph.definition import recorded_asset
from embed_assets.graph.keys import RAW_REVIEWS, asset_key
from embed_assets.graph.launch_config import LaunchConfig
from embed_assets.graph.partitions import PipelinePartitions
from embed_assets.graph.provenance import Inputs
from embed_assets.settings import Settings
from embed_assets.spec import DatasetSpec, EmbeddingPipeline, RowRange
from embed_assets.tell.pace import Pace
from embed_assets.tell.snapshots import change_metadata, delta_metadata, snapshot_metadata
from embed_worker.lake import layout
from embed_worker.lake.deltas import DeltaManifest, no_delta
from embed_worker.lake.errors import BadManifest, LakeError
from embed_worker.lake.snapshots import RawManifest
from embed_worker.steps.difference import make_delta
from embed_worker.steps.errors import SourceError
from embed_worker.steps.raw import DamagedSnapshot, Ingested, ingest, take_base
from embed_worker.steps.spec import INGEST_VERSION
from resources.lake import Lake

DESCRIPTION = """The texts as they came: of each dataset a base, and a delta, which is what the source has become since.

Reads the source in parts, each once, into Parquet with `id`, `text`, `text_key` and the source's other columns. Records
that cannot be used are set aside with their reason. A file that has not changed is not opened again; an unchanged
source is the same snapshot, and materializing it again adopts what is there. Materializing `{dataset}` takes a new
base; materializing `{dataset}-delta` keeps the base, and finds the rows that were added and removed."""


class SnapshotConfig(LaunchConfig):
    """What a launch may ask of raw_reviews."""

    sample_rows: int | None = Field(
        default=None, ge=1, description="Only the first so many rows, for a first try; all that follows is made of them"
    )
    force: bool = Field(default=False, description="Read the source anew even where it is unchanged")
    confirm: bool = Field(
        default=False, description="Take a snapshot that loses or changes more rows than max_removed and max_changed"
    )


def build_raw_reviews(
    pipeline: EmbeddingPipeline, partitions: PipelinePartitions, settings: Settings
) -> dg.AssetsDefinition:
    key = asset_key(pipeline, RAW_REVIEWS)

    @recorded_asset(
        pipeline, RAW_REVIEWS, settings, partitions.snapshots,
        description=DESCRIPTION,
        code_version=str(INGEST_VERSION),
        # However the sources' assets are partitioned, a dataset reads all of them.
        deps=[
            dg.AssetDep(dg.AssetKey.from_user_string(dep), partition_mapping=dg.AllPartitionMapping())
            for dep in pipeline.deps()
        ],
        kinds=["parquet"],
        about={"source": {d.name: d.source for d in pipeline.datasets}},
        checks=raw_checks(pipeline),
    )  # fmt: skip
    def raw_reviews(
        context: dg.AssetExecutionContext, config: SnapshotConfig, lake: dg.ResourceParam[Lake]
    ) -> Iterator[Any]:
        run = PartitionRun.of_step(context, key)
        names = run.partitions()
        if run.checks_only:
            check_snapshots(run, lake, pipeline, names)
        else:
            make_snapshots(run, lake, pipeline, names, config)
        yield from run.finish(len(names))

    return raw_reviews


def make_snapshots(
    run: PartitionRun, lake: Lake, pipeline: EmbeddingPipeline, names: Sequence[str], config: SnapshotConfig
) -> None:
    """Makes and records these bases and deltas."""
    inputs = run.provenance.inputs(names)
    made: dict[str, _Making] = {}
    for name in names:
        of, is_delta = snapshot_of(name)
        try:
            if not is_delta or of not in made:  # else the base was read in this very run
                making = _Making(run, lake, _asked(pipeline.dataset(of), config.sample_rows), config)
                making.read(keep_base=is_delta)
                made[of] = making
            made[of].record(name, inputs[name], of_delta=is_delta)
        except (SourceError, LakeError) as error:
            run.failed(name, str(error))


Rebase = Literal["auto", "never", "now"]


def update_snapshots(
    run: PartitionRun,
    lake: Lake,
    pipeline: EmbeddingPipeline,
    names: Sequence[str],
    config: SnapshotConfig,
    rebase: Rebase = "auto",
) -> list[str]:
    """Takes what these datasets' sources have become as deltas, or as new bases where that is due, and records what
    Dagster does not know; the datasets that are there now."""
    keys = [key for name in names for key in (name, layout.delta_key(name))]
    known, inputs = run.provenance.recorded(keys), run.provenance.inputs(keys)
    there: list[str] = []
    for name in names:
        making = _Making(run, lake, _asked(pipeline.dataset(name), config.sample_rows), config)
        try:
            making.read(keep_base=rebase != "now" and making.has_base)
            if rebase == "auto":
                making.rebase_where_due()
            for key in (name, layout.delta_key(name)):
                if known.get(key) != making.version(of_delta=key != name):
                    making.record(key, inputs[key], of_delta=key != name)
                else:
                    making.look_whether_fresh(key)
        except (SourceError, LakeError) as error:
            run.failed(name, str(error))
        else:
            there.append(name)
    return there


def check_snapshots(run: PartitionRun, lake: Lake, pipeline: EmbeddingPipeline, names: Sequence[str]) -> None:
    """Runs the checks of these bases and deltas again."""
    for name in names:
        of, is_delta = snapshot_of(name)
        run.checked(name, check_snapshot(lake, pipeline.dataset(of), run.selected_checks, latest=is_delta))


def snapshot_of(partition: str) -> tuple[str, bool]:
    """The dataset of a partition of raw_reviews, and whether it is its delta."""
    name = partition.removesuffix(f"-{layout.DELTA}")
    return name, name != partition


def _asked(dataset: DatasetSpec, sample_rows: int | None) -> DatasetSpec:
    if sample_rows is None:
        return dataset
    end = dataset.rows.start + sample_rows
    rows = RowRange(start=dataset.rows.start, end=min(end, dataset.rows.end or end))
    return dataset.model_copy(update={"rows": rows})


def check_snapshot(
    lake: Lake, dataset: DatasetSpec, checks: list[str], *, latest: bool = False
) -> dict[str, CheckOutcome]:
    """Of a dataset's base, or of its latest snapshot."""
    try:
        raw = (lake.latest if latest else lake.base)(dataset.name, dataset.ingest_id)
    except BadManifest as error:
        return all_failed(checks, str(error))
    if raw is None:
        return all_failed(checks, f"no snapshot of {dataset.name} is in {lake.root}")
    return _checked(_view(lake, raw, dataset), checks)


def _checked(view: RawView, names: Sequence[str]) -> dict[str, CheckOutcome]:
    asked = [name for name in names if name in RAW_CHECKS or view.fresh_hours is not None]
    return run_checks({**RAW_CHECKS, "source_fresh": source_fresh}, asked, view)


class _Making:
    """What a dataset's source has become, read, taken and recorded."""

    def __init__(self, run: PartitionRun, lake: Lake, dataset: DatasetSpec, config: SnapshotConfig) -> None:
        self._run, self._lake, self._dataset, self._config = run, lake, dataset, config
        self._adopted = False
        self._changes: dict[str, Any] = {}
        self._base: RawManifest | None = None
        self._delta: DeltaManifest | None = None

    @property
    def has_base(self) -> bool:
        """Whether there is one of the range of rows that is asked for."""
        try:
            base = self._lake.base(self._dataset.name, self._dataset.ingest_id)
        except BadManifest:
            return False
        return base is not None and bool(base.ingest["rows"] == self._dataset.rows.model_dump(mode="json"))

    def read(self, *, keep_base: bool) -> None:
        """Makes the snapshot, or finds it made. Raises SourceError, LakeError; GuardedSnapshot where it is to be
        confirmed first."""
        self._keep_base = keep_base
        made, self._view = self._read()
        self._latest = made.manifest
        base = self._lake.base(self._dataset.name, self._dataset.ingest_id)
        assert base is not None
        self._base, self._delta = base, make_delta(self._lake.store, base, self._latest)

    def rebase_where_due(self) -> None:
        """Takes the latest snapshot as the base where the delta has outgrown it."""
        assert self._delta is not None
        delta, limit = self._delta, self._dataset.rebase_above
        if delta.rows + delta.rows_removed > limit * delta.base_rows:
            take_base(self._lake.store, self._latest)
            self._run.tell(
                f"{self._dataset.name}: the delta adds {delta.rows:,} rows and removes {delta.rows_removed:,} of "
                f"{delta.base_rows:,}, more than rebase_above {limit:.0%}: snapshot {self._latest.snapshot} is the new "
                "base"
            )
            self._base, self._delta = self._latest, no_delta(self._latest)

    def version(self, *, of_delta: bool) -> str:
        """The data version of the base, or of the delta."""
        assert self._base is not None and self._delta is not None
        return self._delta.data_version if of_delta else self._base.snapshot

    def record(self, partition: str, inputs: Inputs, *, of_delta: bool) -> None:
        assert self._base is not None and self._delta is not None
        raw = self._latest if of_delta or self._base.snapshot == self._latest.snapshot else self._base
        is_latest = raw is self._latest
        metadata = snapshot_metadata(self._lake, raw, self._adopted or not is_latest)
        if of_delta:
            metadata |= delta_metadata(self._lake, self._delta)
        if self._config.sample_rows:
            metadata["sample_rows"] = self._config.sample_rows
        view = self._view if is_latest else _view(self._lake, raw, self._dataset)
        self._run.committed(
            partition,
            data_version=self.version(of_delta=of_delta),
            metadata=metadata | (self._changes if is_latest else {}),
            inputs=inputs,
            checks=_checked(view, self._run.selected_checks),
        )

    def look_whether_fresh(self, partition: str) -> None:
        """Of what is recorded already: time alone makes it stale."""
        if self._dataset.fresh_hours is not None:
            self._run.checked(partition, _checked(self._view, ["source_fresh"]))

    def _read(self) -> tuple[Ingested, RawView]:
        lake, name = self._lake, self._dataset.name
        try:
            made = self._ingest()
        except DamagedSnapshot as error:
            self._run.tell(f"{name}: {error}; it is removed and the source read anew", warning=True)
            lake.store.delete(error.path)
            made = self._ingest()
        view = _view(lake, made.manifest, self._dataset)
        if made.created:
            return made, view
        if self._config.force:
            return self._anew(made.manifest, {part.part_id for part in made.manifest.parts})
        if view.faults:
            self._run.tell(f"{name}: {view.faults[0]}; its manifest is retired and the source read anew", warning=True)
            return self._anew(made.manifest, view.broken)
        self._adopted = True
        self._run.tell(f"{name}: the source is unchanged, snapshot {made.manifest.snapshot} is adopted")
        return made, view

    def _ingest(self) -> Ingested:
        progress = Pace(self._dataset.name, self._run.tell)
        return ingest(self._lake.store, self._dataset, progress, keep_base=self._keep_base, agree=self._agree)

    def _anew(self, manifest: RawManifest, parts: Collection[str]) -> tuple[Ingested, RawView]:
        self._lake.store.delete(manifest.path)  # first: it lists what is about to go
        for part_id in parts:
            self._lake.store.delete(f"{manifest.folder}/{layout.part_record(part_id)}")
        made = self._ingest()
        return made, _view(self._lake, made.manifest, self._dataset)

    def _agree(self, manifest: RawManifest) -> None:
        found = changes_against_latest(self._lake, manifest)
        if found is None:
            return
        self._changes = change_metadata(found)
        if not self._config.confirm:
            guard(self._dataset, found)


def _view(lake: Lake, raw: RawManifest, dataset: DatasetSpec) -> RawView:
    return RawView(lake.store, raw, max_rejects=dataset.max_rejects, fresh_hours=dataset.fresh_hours)
