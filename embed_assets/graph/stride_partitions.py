"""stride_partitions: a snapshot cut into the inputs of the embedding jobs."""

import time
from collections.abc import Iterator
from typing import Any

import dagster as dg

from embed_assets.checks.outcome import all_failed, run_checks
from embed_assets.checks.rows import ROW_CHECKS, RowsView
from embed_assets.estimate.build import accelerators_of, make_plan, quotes_for
from embed_assets.estimate.show import as_metadata
from embed_assets.estimate.speed import CPU
from embed_assets.graph.common import (
    RAW_REVIEWS,
    STRIDE_PARTITIONS,
    asset_key,
    backfill_policy,
    check_specs,
    current_snapshot,
    current_strides,
    op_options,
    spec_options,
)
from embed_assets.graph.dagster_events import PartitionRun
from embed_assets.graph.partitions import PipelinePartitions
from embed_assets.settings import Settings
from embed_assets.spec import DatasetSpec, EmbeddingPipeline
from embed_assets.tell.lineage import STRIDE_SCHEMA, same_columns
from embed_worker.lake import layout
from embed_worker.lake.errors import BadManifest, LakeError
from embed_worker.lake.integrity import file_faults
from embed_worker.lake.manifests import RawManifest, StridesManifest
from embed_worker.steps.cut import write_strides
from resources.lake import Lake
from resources.skypilot.settings import SkyPilotSettings

PLAN_SAMPLE = 2048
"""Rows that are tokenised for the plan beside the strides."""

DESCRIPTION = """The rows of a snapshot, cut into the inputs of the embedding jobs.

Row r belongs to stride r mod N (or to the r-th of N equal runs with `partitioning: contiguous`). Materializing any
writes all strides of its dataset, in one pass over the snapshot; where they are there, it proves and adopts them all.
The exact-cover check of each proves that together they hold every row once."""


def build_stride_partitions(
    pipeline: EmbeddingPipeline, partitions: PipelinePartitions, settings: Settings
) -> dg.AssetsDefinition:
    key, raw_key = asset_key(pipeline, STRIDE_PARTITIONS), asset_key(pipeline, RAW_REVIEWS)

    @dg.multi_asset(
        name=f"{pipeline.name}__{STRIDE_PARTITIONS}",
        **op_options(pipeline, STRIDE_PARTITIONS),
        partitions_def=partitions.strides,
        can_subset=True,
        backfill_policy=backfill_policy(partitions.count, max(settings.partitions_per_run, 1000)),
        specs=[
            dg.AssetSpec(
                key,
                description=DESCRIPTION,
                code_version="-".join(f"{d.partitioning[0]}{d.strides}" for d in pipeline.datasets),
                deps=[dg.AssetDep(raw_key, partition_mapping=partitions.dataset_to_strides)],
                **spec_options(pipeline, ["pyarrow", "parquet"]),
            )
        ],
        check_specs=check_specs(key, ROW_CHECKS, partitions.strides),
    )
    def stride_partitions(context: dg.AssetExecutionContext, lake: dg.ResourceParam[Lake]) -> Iterator[Any]:
        run = PartitionRun(context, key, {raw_key: lambda k: layout.split_partition_key(k)[0]})
        keys = run.partitions()
        # Taken before the work begins: what it really reads. Strides of a dataset have one input.
        first = {layout.split_partition_key(key)[0]: key for key in reversed(keys)}
        read = run.inputs(first.values())
        inputs = {name: read[key] for name, key in first.items()}
        made: dict[str, _Made | str] = {}
        plans: dict[str, dict[str, Any]] = {}
        for partition in keys:
            name, stride = layout.split_partition_key(partition)
            if name not in made:
                made[name] = _make(context, lake, pipeline.dataset(name), adopt_only=run.checks_only)
            cut = made[name]
            if isinstance(cut, str):
                if run.checks_only:
                    run.checked(partition, all_failed(run.selected_checks, cut))
                else:
                    run.failed(partition, cut)
                continue
            view = cut.view(lake, stride)
            if run.checks_only:
                run.checked(partition, run_checks(ROW_CHECKS, run.selected_checks, view))
                continue
            if name not in plans:
                plans[name] = _plan(context, lake, pipeline, cut.dataset, settings)
            run.committed(
                partition,
                data_version=cut.data_version(stride),
                metadata={**cut.metadata(lake, stride, raw_key), **plans[name]},
                inputs=inputs[name],
                checks=run_checks(ROW_CHECKS, run.selected_checks, view),
            )
        run.finish(len(keys))
        yield from ()

    return stride_partitions


def _plan(
    context: dg.AssetExecutionContext,
    lake: Lake,
    pipeline: EmbeddingPipeline,
    dataset: DatasetSpec,
    settings: Settings,
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
        context.log.warning(f"{dataset.name}: no plan could be made: {error}")
        return {"plan": f"unknown: {' '.join(str(error).split())[:300]}"}


class _Made:
    """The strides of one dataset."""

    def __init__(self, dataset: DatasetSpec, raw: RawManifest, strides: StridesManifest, created: bool) -> None:
        self.dataset, self.raw, self.strides, self.created = dataset, raw, strides, created
        self.partitioning = dataset.partitioning_of(raw.snapshot)
        self.folder = layout.strides_folder(dataset.name, self.partitioning)

    def data_version(self, stride: int) -> str:
        """With the snapshot: its shards lie in a folder of their own, so they are due even where no row changed."""
        return f"{self.partitioning.name}-{self.strides.strides[stride].digest}"

    def view(self, lake: Lake, stride: int) -> RowsView:
        expected = self.partitioning.row_ids(stride, self.raw.rows)
        assert isinstance(expected, range)
        return RowsView(lake.store, self.folder, self.strides.strides[stride].files, expected)

    def metadata(self, lake: Lake, stride: int, raw_key: dg.AssetKey) -> dict[str, Any]:
        entry = self.strides.strides[stride]
        return {
            "dagster/row_count": entry.rows,
            "dagster/uri": lake.url(f"{self.folder}/{stride:05d}"),
            "dagster/column_schema": STRIDE_SCHEMA,
            "dagster/column_lineage": same_columns(raw_key, ["row_id", "id", "text"]),
            "snapshot": self.raw.snapshot,
            "adopted": not self.created,
            "partitioning": f"{self.strides.method}, {self.strides.count} partitions",
            "digest": entry.digest,
            "bytes": entry.bytes,
            "seconds_all_strides": self.strides.seconds,
        }


def _make(context: dg.AssetExecutionContext, lake: Lake, dataset: DatasetSpec, *, adopt_only: bool) -> "_Made | str":
    """The dataset's strides, or why there are none."""
    reported = time.monotonic()

    def progress(strides: int) -> None:
        nonlocal reported
        if time.monotonic() - reported > 30:
            context.log.info(f"{dataset.name}: {strides:,} of {dataset.strides:,} strides written")
            reported = time.monotonic()

    try:
        raw = current_snapshot(lake, dataset)
        if adopt_only:
            return _Made(dataset, raw, current_strides(lake, dataset, raw), created=False)
        partitioning = dataset.partitioning_of(raw.snapshot)
        folder = layout.strides_folder(dataset.name, partitioning)
        try:
            cut = write_strides(lake.store, raw, partitioning, progress)
        except BadManifest as error:
            context.log.warning(f"{dataset.name}: {error}; the strides are written anew")
            lake.store.delete(f"{folder}/{layout.MANIFEST}")
            cut = write_strides(lake.store, raw, partitioning, progress)
        if not cut.created:
            if faults := file_faults(lake.store, folder, cut.manifest.listed):
                context.log.warning(f"{dataset.name}: {faults[0]}; the strides are written anew")
                lake.store.delete(f"{folder}/{layout.MANIFEST}")
                cut = write_strides(lake.store, raw, partitioning, progress)
            else:
                context.log.info(f"{dataset.name}: the strides of snapshot {raw.snapshot} are there and are adopted")
        return _Made(dataset, raw, cut.manifest, cut.created)
    except LakeError as error:
        return str(error)
