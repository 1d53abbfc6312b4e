"""raw_reviews: of each dataset a base, and a delta: what the source has become since. Parts are read once."""

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import dagster as dg

from embed_assets.checks.fresh import raw_checks
from embed_assets.checks.outcome import CheckOutcome, all_failed
from embed_assets.graph.assets.taken import Reading, SnapshotConfig, Taken, checked, view_of
from embed_assets.graph.dagster_events import PartitionRun
from embed_assets.graph.definition import recorded_asset
from embed_assets.graph.keys import RAW_REVIEWS, asset_key
from embed_assets.graph.partitions import PipelinePartitions
from embed_assets.settings import Settings
from embed_assets.spec import DatasetSpec, EmbeddingPipeline, RowRange
from embed_worker.lake import layout
from embed_worker.lake.errors import BadManifest, LakeError
from embed_worker.steps.errors import SourceError
from embed_worker.steps.spec import INGEST_VERSION
from resources.lake import Lake

DESCRIPTION = """The texts as they came: of each dataset a base, and a delta, which is what the source has become since.

Reads the source in parts, each once, into Parquet with `id`, `text`, `text_key` and the source's other columns. Records
that cannot be used are set aside with their reason. A file that has not changed is not opened again; an unchanged
source is the same snapshot, and materializing it again adopts what is there. Materializing `{dataset}` takes a new
base; materializing `{dataset}-delta` keeps the base, and finds the rows that were added and removed."""


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
    taken: dict[str, Taken] = {}
    for name in names:
        of, is_delta = snapshot_of(name)
        try:
            if not is_delta or of not in taken:  # else the base was read in this very run
                reading = Reading(run, lake, _asked(pipeline.dataset(of), config.sample_rows), config)
                taken[of] = reading.take(keep_base=is_delta)
            taken[of].record(name, inputs[name], of_delta=is_delta)
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
        reading = Reading(run, lake, _asked(pipeline.dataset(name), config.sample_rows), config)
        try:
            taken = reading.take(keep_base=rebase != "now" and reading.has_base)
            if rebase == "auto":
                taken.rebase_where_due()
            for key in (name, layout.delta_key(name)):
                if known.get(key) != taken.version(of_delta=key != name):
                    taken.record(key, inputs[key], of_delta=key != name)
                else:
                    taken.look_whether_fresh(key)
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
    return checked(view_of(lake, raw, dataset), checks)
