"""stride_partitions: a snapshot cut into the inputs of the embedding jobs."""

import time
from collections.abc import Iterator, Sequence
from typing import Any

import dagster as dg

from embed_assets.checks.outcome import all_failed, run_checks
from embed_assets.checks.strides import STRIDE_CHECKS, StrideView
from embed_assets.estimate.build import accelerators_of, make_plan, quotes_for
from embed_assets.estimate.show import as_metadata
from embed_assets.estimate.speed import CPU
from embed_assets.graph.dagster_events import PartitionRun
from embed_assets.graph.definition import recorded_asset
from embed_assets.graph.keys import RAW_REVIEWS, STRIDE_PARTITIONS, asset_key
from embed_assets.graph.partitions import PipelinePartitions
from embed_assets.graph.ready import current_delta, current_snapshot, current_strides, delta_strides
from embed_assets.settings import Settings
from embed_assets.spec import DatasetSpec, EmbeddingPipeline
from embed_assets.tell.snapshots import stride_metadata
from embed_worker.lake import layout
from embed_worker.lake.deltas import DeltaManifest, Rows
from embed_worker.lake.errors import BadManifest, DamagedData, LakeError
from embed_worker.lake.identity import RowsDigest
from embed_worker.lake.manifests import StrideEntry, StridesManifest
from embed_worker.steps.cut import retire_slices, write_strides
from embed_worker.steps.spans import spans_of
from resources.lake import Lake
from resources.skypilot.settings import SkyPilotSettings

PLAN_SAMPLE = 2048
"""Rows that are tokenised for the plan beside the strides."""
CUT_VERSION = "2"
"""Counts up when the same snapshot would be cut otherwise than before."""

DESCRIPTION = """The rows of a snapshot, cut into the inputs of the embedding jobs.

A row belongs to the stride that a hash of its text says, so that equal texts meet and a text keeps its stride from
snapshot to snapshot; with `partitioning: stride` row r belongs to stride r mod N, with `contiguous` to the r-th of N
equal runs. `{dataset}-delta` holds the rows that the delta adds. Materializing any cuts the parts of its dataset that
are not cut yet; of what is there, it proves and adopts the strides that were asked for. The exact-cover check of each
proves that together they hold every row once."""


def build_stride_partitions(
    pipeline: EmbeddingPipeline, partitions: PipelinePartitions, settings: Settings
) -> dg.AssetsDefinition:
    key = asset_key(pipeline, STRIDE_PARTITIONS)

    @recorded_asset(
        pipeline, STRIDE_PARTITIONS, settings, partitions.strides,
        description=DESCRIPTION,
        code_version=CUT_VERSION,
        deps=[dg.AssetDep(asset_key(pipeline, RAW_REVIEWS), partition_mapping=partitions.snapshot_to_strides)],
        kinds=["arrow"],
        about={"strides": {d.name: f"{d.strides} by {d.partitioning}" for d in pipeline.datasets}},
        checks=STRIDE_CHECKS,
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
        if isinstance(made, _Made) and known.get(partition) == made.data_version(partition):
            there.append(partition)
            continue
        if isinstance(made, _Made) and not made.created and made.view(lake, partition).fault is not None:
            made = cuts.repaired(partition, made)
        if isinstance(made, str):
            run.failed(partition, made)
            continue
        there.append(partition)
        metadata = made.metadata(lake, partition, asset_key(pipeline, RAW_REVIEWS))
        if made.cut.method != layout.DELTA:
            name = made.dataset.name
            first = name not in plans
            if first:
                plans[name] = _plan(run, lake, pipeline, made.dataset, settings)
            metadata |= _shown(plans[name], first)
        run.committed(
            partition,
            data_version=made.data_version(partition),
            metadata=metadata,
            inputs=inputs[partition],
            checks=run_checks(STRIDE_CHECKS, run.selected_checks, made.view(lake, partition)),
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
            run.checked(partition, run_checks(STRIDE_CHECKS, run.selected_checks, made.view(lake, partition)))


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
    """The strides of one dataset's base, or its delta's one."""

    def __init__(self, lake: Lake, dataset: DatasetSpec, raw: Rows, cut: StridesManifest, created: bool) -> None:
        self.dataset, self.raw, self.cut, self.created = dataset, raw, cut, created
        self.spans = spans_of(lake.store, cut)

    def data_version(self, partition: str) -> str:
        """Of the stride's rows: a snapshot that changes others leaves it as it was."""
        if isinstance(self.raw, DeltaManifest):  # what it removes counts, too
            return f"{self.cut.partitioning.name}-{self.raw.data_version}"
        return f"{self.cut.partitioning.name}-{self._entry(partition).digest}"

    def view(self, lake: Lake, partition: str) -> StrideView:
        whole = RowsDigest.parse(self.raw.rows, self.raw.rows_digest)
        stride = stride_of(partition)
        return StrideView(lake.store, self.cut, stride, self.spans[stride], whole)

    def metadata(self, lake: Lake, partition: str, raw_key: dg.AssetKey) -> dict[str, Any]:
        return stride_metadata(lake, self.cut, self._entry(partition), raw_key, not self.created)

    def _entry(self, partition: str) -> StrideEntry:
        return self.cut.strides[stride_of(partition)]


def stride_of(partition: str) -> int:
    """The number of a partition among its cut's; the delta's has one."""
    return layout.split_partition_key(partition)[1] or 0


class _Cuts:
    """The cuts of the bases and deltas that a run asks for, each made or found once."""

    def __init__(self, run: PartitionRun, lake: Lake, pipeline: EmbeddingPipeline) -> None:
        self._run, self._lake, self._pipeline = run, lake, pipeline
        self._known: dict[tuple[str, bool], _Made | str] = {}

    def of(self, partition: str) -> "_Made | str":
        """The cut that has a partition, or why there is none."""
        name, stride = layout.split_partition_key(partition)
        which = name, stride is None
        if which not in self._known:
            self._known[which] = self._try(*which)
        return self._known[which]

    def repaired(self, partition: str, made: _Made) -> "_Made | str":
        """Cuts those parts anew whose slices do not hold a stride's rows."""
        for fault in retire_slices(self._lake.store, made.cut, made.spans[stride_of(partition)]):
            self._run.tell(f"{made.dataset.name}: {fault}; the slice is made anew", warning=True)
        which = made.dataset.name, made.cut.method == layout.DELTA
        self._known[which] = found = self._try(*which)
        return found

    def _try(self, name: str, is_delta: bool) -> "_Made | str":
        try:
            return self._make(self._pipeline.dataset(name), is_delta)
        except LakeError as error:
            return str(error)

    def _make(self, dataset: DatasetSpec, is_delta: bool) -> "_Made":
        run, lake, reported = self._run, self._lake, time.monotonic()

        def progress(done: int, slices: int) -> None:
            nonlocal reported
            if time.monotonic() - reported > 30:
                run.tell(f"{dataset.name}: {done:,} of {slices:,} parts are cut ({done / slices:.0%})")
                reported = time.monotonic()

        base = current_snapshot(lake, dataset)
        raw: Rows = current_delta(lake, base) if is_delta else base
        how = layout.WHOLE if is_delta else dataset.cut
        if run.checks_only and raw.rows:
            there = delta_strides(lake, raw) if isinstance(raw, DeltaManifest) else current_strides(lake, dataset, base)
            return _Made(lake, dataset, raw, there, created=False)
        try:
            cut = write_strides(lake.store, raw, how, progress)
            made = _Made(lake, dataset, raw, cut.manifest, cut.created)
        except (BadManifest, DamagedData) as error:  # of the cut or of one of its slices
            run.tell(f"{dataset.name}: {error}; what is wrong is made anew", warning=True)
            lake.store.delete(layout.cut_file(layout.strides_folder(dataset.name, raw.ingest_id, how), raw.snapshot))
            cut = write_strides(lake.store, raw, how, progress)
            made = _Made(lake, dataset, raw, cut.manifest, cut.created)
        for warning in cut.manifest.warnings if cut.created else []:
            run.tell(f"{dataset.name}: {warning}", warning=True)
        if not cut.created and raw.rows:
            what = "what the delta adds is" if is_delta else f"the strides of snapshot {raw.snapshot} are"
            run.tell(f"{dataset.name}: {what} cut already and adopted")
        return made
