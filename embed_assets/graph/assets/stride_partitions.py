"""stride_partitions: a snapshot cut into the inputs of the embedding jobs."""

import time
from collections.abc import Iterator, Sequence
from typing import Any

import dagster as dg

from embed_assets.checks.outcome import all_failed, run_checks
from embed_assets.checks.strides import ROW_CHECKS, RowsView
from embed_assets.estimate.build import accelerators_of, make_plan, quotes_for
from embed_assets.estimate.show import as_metadata
from embed_assets.estimate.speed import CPU
from embed_assets.graph.dagster_events import PartitionRun
from embed_assets.graph.definition import recorded_asset
from embed_assets.graph.keys import RAW_REVIEWS, STRIDE_PARTITIONS, asset_key
from embed_assets.graph.partitions import PipelinePartitions
from embed_assets.graph.ready import current_snapshot, current_strides
from embed_assets.settings import Settings
from embed_assets.spec import DatasetSpec, EmbeddingPipeline
from embed_assets.tell.snapshots import stride_metadata
from embed_worker.lake import layout
from embed_worker.lake.errors import BadManifest, LakeError
from embed_worker.lake.integrity import file_faults
from embed_worker.lake.manifests import StrideEntry, StridesManifest
from embed_worker.lake.snapshots import RawManifest
from embed_worker.steps.cut import write_strides
from resources.lake import Lake
from resources.skypilot.settings import SkyPilotSettings

PLAN_SAMPLE = 2048
"""Rows that are tokenised for the plan beside the strides."""
CUT_VERSION = "1"
"""Counts up when the same snapshot would be cut otherwise than before."""

DESCRIPTION = """The rows of a snapshot, cut into the inputs of the embedding jobs.

Row r belongs to stride r mod N (or to the r-th of N equal runs with `partitioning: contiguous`). Materializing any
writes all strides of its dataset, in one pass over the snapshot; where they are there, it proves and adopts them all.
The exact-cover check of each proves that together they hold every row once."""


def build_stride_partitions(
    pipeline: EmbeddingPipeline, partitions: PipelinePartitions, settings: Settings
) -> dg.AssetsDefinition:
    key = asset_key(pipeline, STRIDE_PARTITIONS)

    @recorded_asset(
        pipeline, STRIDE_PARTITIONS, settings, partitions.strides,
        description=DESCRIPTION,
        code_version=CUT_VERSION,
        deps=[dg.AssetDep(asset_key(pipeline, RAW_REVIEWS), partition_mapping=partitions.dataset_to_strides)],
        kinds=["parquet"],
        about={"strides": {d.name: f"{d.strides} by {d.partitioning}" for d in pipeline.datasets}},
        checks=ROW_CHECKS,
        per_run=max(settings.partitions_per_run, 1000),
    )  # fmt: skip
    def stride_partitions(context: dg.AssetExecutionContext, lake: dg.ResourceParam[Lake]) -> Iterator[Any]:
        run = PartitionRun.of_step(context, key)
        keys = run.partitions()
        if run.checks_only:
            check_strides(run, lake, pipeline, keys)
        else:
            make_strides(run, lake, pipeline, settings, keys)
        yield from run.finish(len(keys))

    return stride_partitions


def make_strides(
    run: PartitionRun,
    lake: Lake,
    pipeline: EmbeddingPipeline,
    settings: Settings,
    keys: Sequence[str],
    *,
    record_all: bool = True,
) -> list[str]:
    """Makes and records these strides; those that are there now. `record_all`: also what Dagster knows already."""
    inputs = run.provenance.inputs(keys)  # taken before the work begins: what it really reads
    known = {} if record_all else run.provenance.recorded(keys)
    cuts, there = _Cuts(run, lake, pipeline), list[str]()
    plans: dict[str, dict[str, Any]] = {}
    for partition in keys:
        made = cuts.of(partition)
        if isinstance(made, str):
            run.failed(partition, made)
            continue
        there.append(partition)
        version = made.data_version(partition)
        if known.get(partition) == version:
            continue
        name = made.dataset.name
        first = name not in plans
        if first:
            plans[name] = _plan(run, lake, pipeline, made.dataset, settings)
        run.committed(
            partition,
            data_version=version,
            metadata={**made.metadata(lake, partition, asset_key(pipeline, RAW_REVIEWS)), **_shown(plans[name], first)},
            inputs=inputs[partition],
            checks=run_checks(ROW_CHECKS, run.selected_checks, made.view(lake, partition)),
        )
    return there


def check_strides(run: PartitionRun, lake: Lake, pipeline: EmbeddingPipeline, keys: Sequence[str]) -> None:
    """Runs the checks of these strides again; cuts nothing."""
    cuts = _Cuts(run, lake, pipeline)
    for partition in keys:
        made = cuts.of(partition)
        if isinstance(made, str):
            run.checked(partition, all_failed(run.selected_checks, made))
        else:
            run.checked(partition, run_checks(ROW_CHECKS, run.selected_checks, made.view(lake, partition)))


def _plan(
    run: PartitionRun, lake: Lake, pipeline: EmbeddingPipeline, dataset: DatasetSpec, settings: Settings
) -> dict[str, Any]:
    """What embedding the dataset will take. A plan that cannot be made stops nothing."""
    remote = settings.compute == "skypilot"
    try:
        sky = SkyPilotSettings()
        names = accelerators_of(pipeline, sky, settings.compute) if remote else [CPU, *pipeline.plan.tokens_per_second]
        quotes = quotes_for(pipeline, sky, catalog=remote)
        plan = make_plan(lake, pipeline, dataset, names, quotes, sample_rows=PLAN_SAMPLE, local=not remote)
        return as_metadata(plan)
    except Exception as error:
        run.tell(f"{dataset.name}: no plan could be made: {error}", warning=True)
        return {"plan": f"unknown: {' '.join(str(error).split())[:300]}"}


def _shown(plan: dict[str, Any], first: bool) -> dict[str, Any]:
    """The plan's text stands at the first of a dataset's strides that a run records; its figures at each."""
    return plan if first else {name: value for name, value in plan.items() if name != "plan"}


class _Made:
    """The strides of one dataset."""

    def __init__(self, dataset: DatasetSpec, raw: RawManifest, strides: StridesManifest, created: bool) -> None:
        self.dataset, self.raw, self.strides, self.created = dataset, raw, strides, created
        self.partitioning = dataset.partitioning_of(raw.snapshot)
        self.folder = layout.strides_folder(dataset.name, self.partitioning)

    def data_version(self, partition: str) -> str:
        """With the snapshot: its shards lie in a folder of their own, so they are due even where no row changed."""
        return f"{self.partitioning.name}-{self._entry(partition).digest}"

    def view(self, lake: Lake, partition: str) -> RowsView:
        _, stride = layout.split_partition_key(partition)
        expected = self.partitioning.row_ids(stride, self.raw.rows)
        assert isinstance(expected, range)
        return RowsView(lake.store, self.folder, self._entry(partition).files, expected)

    def metadata(self, lake: Lake, partition: str, raw_key: dg.AssetKey) -> dict[str, Any]:
        _, stride = layout.split_partition_key(partition)
        folder = f"{self.folder}/{stride:05d}"
        return stride_metadata(lake, self.strides, self._entry(partition), folder, raw_key, not self.created)

    def _entry(self, partition: str) -> StrideEntry:
        return self.strides.strides[layout.split_partition_key(partition)[1]]


class _Cuts:
    """The strides of each dataset that a run asks for, made or found once."""

    def __init__(self, run: PartitionRun, lake: Lake, pipeline: EmbeddingPipeline) -> None:
        self._run, self._lake, self._pipeline = run, lake, pipeline
        self._known: dict[str, _Made | str] = {}

    def of(self, partition: str) -> "_Made | str":
        """The cut that has a partition, or why there is none."""
        name, _ = layout.split_partition_key(partition)
        if name not in self._known:
            try:
                self._known[name] = self._make(self._pipeline.dataset(name))
            except LakeError as error:
                self._known[name] = str(error)
        return self._known[name]

    def _make(self, dataset: DatasetSpec) -> "_Made":
        run, lake, reported = self._run, self._lake, time.monotonic()

        def progress(strides: int) -> None:
            nonlocal reported
            if time.monotonic() - reported > 30:
                run.tell(f"{dataset.name}: {strides:,} of {dataset.strides:,} strides written")
                reported = time.monotonic()

        raw = current_snapshot(lake, dataset)
        if run.checks_only:
            return _Made(dataset, raw, current_strides(lake, dataset, raw), created=False)
        partitioning = dataset.partitioning_of(raw.snapshot)
        folder = layout.strides_folder(dataset.name, partitioning)
        try:
            cut = write_strides(lake.store, raw, partitioning, progress)
        except BadManifest as error:
            fault = str(error)
        else:
            if cut.created:
                return _Made(dataset, raw, cut.manifest, created=True)
            faults = file_faults(lake.store, folder, cut.manifest.listed)
            if not faults:
                run.tell(f"{dataset.name}: the strides of snapshot {raw.snapshot} are there and are adopted")
                return _Made(dataset, raw, cut.manifest, created=False)
            fault = faults[0]
        run.tell(f"{dataset.name}: {fault}; the strides are written anew", warning=True)
        lake.store.delete(f"{folder}/{layout.MANIFEST}")
        return _Made(dataset, raw, write_strides(lake.store, raw, partitioning, progress).manifest, created=True)
