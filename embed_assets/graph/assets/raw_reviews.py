"""raw_reviews: one snapshot a dataset, of parts that are read once."""

from collections.abc import Collection, Iterator, Sequence
from typing import Any

import dagster as dg
from pydantic import Field

from embed_assets.checks.outcome import CheckOutcome, all_failed, run_checks
from embed_assets.checks.source import RAW_CHECKS, RawView
from embed_assets.graph.dagster_events import PartitionRun
from embed_assets.graph.definition import recorded_asset
from embed_assets.graph.keys import RAW_REVIEWS, asset_key
from embed_assets.graph.launch_config import LaunchConfig
from embed_assets.graph.partitions import PipelinePartitions
from embed_assets.settings import Settings
from embed_assets.spec import DatasetSpec, EmbeddingPipeline, RowRange
from embed_assets.tell.pace import Pace
from embed_assets.tell.snapshots import snapshot_metadata
from embed_worker.lake import layout
from embed_worker.lake.errors import BadManifest, LakeError
from embed_worker.lake.snapshots import RawManifest
from embed_worker.steps.errors import SourceError
from embed_worker.steps.raw import DamagedSnapshot, Ingested, ingest
from embed_worker.steps.spec import INGEST_VERSION
from resources.lake import Lake

DESCRIPTION = """The texts as they came, one snapshot a dataset.

Reads the source in parts, each once, into Parquet with `id`, `text`, `text_key` and the source's other columns. Records
that cannot be used are set aside with their reason. A file that has not changed is not opened again; an unchanged
source is the same snapshot, and materializing it again adopts what is there."""


class SnapshotConfig(LaunchConfig):
    """What a launch may ask of raw_reviews."""

    sample_rows: int | None = Field(
        default=None, ge=1, description="Only the first so many rows, for a first try; all that follows is made of them"
    )
    force: bool = Field(default=False, description="Read the source anew even where it is unchanged")


def build_raw_reviews(
    pipeline: EmbeddingPipeline, partitions: PipelinePartitions, settings: Settings
) -> dg.AssetsDefinition:
    key = asset_key(pipeline, RAW_REVIEWS)

    @recorded_asset(
        pipeline, RAW_REVIEWS, settings, partitions.datasets,
        description=DESCRIPTION,
        code_version=str(INGEST_VERSION),
        # However the sources' assets are partitioned, a dataset reads all of them.
        deps=[
            dg.AssetDep(dg.AssetKey.from_user_string(dep), partition_mapping=dg.AllPartitionMapping())
            for dep in pipeline.deps()
        ],
        kinds=["parquet"],
        about={"source": {d.name: d.source for d in pipeline.datasets}},
        checks=RAW_CHECKS,
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
    run: PartitionRun,
    lake: Lake,
    pipeline: EmbeddingPipeline,
    names: Sequence[str],
    config: SnapshotConfig,
    *,
    record_all: bool = True,
) -> list[str]:
    """Makes and records the snapshots of these datasets; those that are there now. `record_all`: also what Dagster
    knows already."""
    known = {} if record_all else run.provenance.recorded(names)
    inputs = run.provenance.inputs(names)
    made: list[str] = []
    for name in names:
        dataset = _asked(pipeline.dataset(name), config.sample_rows)
        try:
            ingested, view = _make(run, lake, dataset, force=config.force)
            snapshot = ingested.manifest.snapshot
            made.append(name)
            if not ingested.created and known.get(name) == snapshot:
                continue
            metadata = snapshot_metadata(lake, ingested.manifest, not ingested.created)
        except (SourceError, LakeError) as error:
            run.failed(name, str(error))
            continue
        if config.sample_rows:
            metadata["sample_rows"] = config.sample_rows
        run.committed(
            name,
            data_version=snapshot,
            metadata=metadata,
            inputs=inputs[name],
            checks=run_checks(RAW_CHECKS, run.selected_checks, view),
        )
    return made


def check_snapshots(run: PartitionRun, lake: Lake, pipeline: EmbeddingPipeline, names: Sequence[str]) -> None:
    """Runs the checks of these datasets' snapshots again."""
    for name in names:
        run.checked(name, check_snapshot(lake, pipeline.dataset(name), run.selected_checks))


def _asked(dataset: DatasetSpec, sample_rows: int | None) -> DatasetSpec:
    if sample_rows is None:
        return dataset
    end = dataset.rows.start + sample_rows
    rows = RowRange(start=dataset.rows.start, end=min(end, dataset.rows.end or end))
    return dataset.model_copy(update={"rows": rows})


def check_snapshot(lake: Lake, dataset: DatasetSpec, checks: list[str]) -> dict[str, CheckOutcome]:
    """Of a dataset's base."""
    try:
        raw = lake.base(dataset.name, dataset.ingest_id)
    except BadManifest as error:
        return all_failed(checks, str(error))
    if raw is None:
        return all_failed(checks, f"no snapshot of {dataset.name} is in {lake.root}")
    return run_checks(RAW_CHECKS, checks, _view(lake, raw, dataset))


def _make(run: PartitionRun, lake: Lake, dataset: DatasetSpec, *, force: bool) -> tuple[Ingested, RawView]:
    progress = Pace(dataset.name, run.tell)

    def anew(manifest: RawManifest, parts: Collection[str]) -> tuple[Ingested, RawView]:
        lake.store.delete(manifest.path)  # first: it lists what is about to go
        for part_id in parts:
            lake.store.delete(f"{manifest.folder}/{layout.part_record(part_id)}")
        made = ingest(lake.store, dataset, progress)
        return made, _view(lake, made.manifest, dataset)

    try:
        made = ingest(lake.store, dataset, progress)
    except DamagedSnapshot as error:
        run.tell(f"{dataset.name}: {error}; it is removed and the source read anew", warning=True)
        lake.store.delete(error.path)
        made = ingest(lake.store, dataset, progress)
    view = _view(lake, made.manifest, dataset)
    if made.created:
        return made, view
    if force:
        return anew(made.manifest, {part.part_id for part in made.manifest.parts})
    if view.faults:
        run.tell(f"{dataset.name}: {view.faults[0]}; its manifest is retired and the source read anew", warning=True)
        return anew(made.manifest, view.broken)
    run.tell(f"{dataset.name}: the source is unchanged, snapshot {made.manifest.snapshot} is adopted")
    return made, view


def _view(lake: Lake, raw: RawManifest, dataset: DatasetSpec) -> RawView:
    return RawView(lake.store, raw, max_rejects=dataset.max_rejects)
