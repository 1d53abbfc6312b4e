"""raw_reviews: one snapshot a dataset, as Parquet with dense row ids."""

import time
from collections.abc import Iterator
from typing import Any

import dagster as dg

from embed_assets.checks.outcome import CheckOutcome, all_failed, run_checks
from embed_assets.checks.source import RAW_CHECKS, RawView
from embed_assets.graph.common import RAW_REVIEWS, asset_key, check_specs, spec_options
from embed_assets.graph.dagster_events import PartitionRun
from embed_assets.graph.partitions import PipelinePartitions
from embed_assets.settings import Settings
from embed_assets.spec import DatasetSpec, EmbeddingPipeline
from embed_assets.tell.lineage import column_schema
from embed_assets.tell.summary import lengths_metadata
from embed_worker.lake import layout
from embed_worker.lake.errors import BadManifest, LakeError
from embed_worker.lake.manifests import RawManifest
from embed_worker.steps.errors import SourceError
from embed_worker.steps.raw import DamagedSnapshot, Ingested, ingest
from resources.lake import Lake

DESCRIPTION = """The texts as they came, one snapshot a dataset.

Streams the source once into Parquet with dense `row_id`, `id`, `text` and the source's other columns. Records that
cannot be used are set aside in `rejects.parquet` with their reason. An unchanged source is the same snapshot:
materializing it again adopts what is there."""


def build_raw_reviews(
    pipeline: EmbeddingPipeline, partitions: PipelinePartitions, settings: Settings
) -> dg.AssetsDefinition:
    key = asset_key(pipeline, RAW_REVIEWS)

    @dg.multi_asset(
        name=f"{pipeline.name}__{RAW_REVIEWS}",
        partitions_def=partitions.datasets,
        can_subset=True,
        backfill_policy=dg.BackfillPolicy.multi_run(settings.partitions_per_run),
        specs=[
            dg.AssetSpec(
                key,
                description=DESCRIPTION,
                code_version=pipeline.ingest_version(),
                **spec_options(pipeline, ["polars", "parquet"]),
            )
        ],
        check_specs=check_specs(key, RAW_CHECKS, partitions.datasets),
    )
    def raw_reviews(context: dg.AssetExecutionContext, lake: dg.ResourceParam[Lake]) -> Iterator[Any]:
        run = PartitionRun(context, key, {})
        names = run.partitions()
        for name in names:
            try:
                if run.checks_only:
                    run.checked(name, _check(lake, pipeline.dataset(name), run.selected_checks))
                    continue
                made, view = _make(context, lake, pipeline.dataset(name))
                metadata = _metadata(lake, made)
            except (SourceError, LakeError) as error:
                run.failed(name, str(error))
                continue
            run.committed(
                name,
                data_version=made.manifest.snapshot,
                metadata=metadata,
                inputs={},
                checks=run_checks(RAW_CHECKS, run.selected_checks, view),
            )
        run.finish(len(names))
        yield from ()

    return raw_reviews


def _check(lake: Lake, dataset: DatasetSpec, checks: list[str]) -> dict[str, CheckOutcome]:
    try:
        raw = lake.latest_snapshot(dataset.name)
    except BadManifest as error:
        return all_failed(checks, str(error))
    if raw is None:
        return all_failed(checks, f"no snapshot of {dataset.name} is in {lake.root}")
    return run_checks(RAW_CHECKS, checks, _view(lake, raw, dataset))


def _make(context: dg.AssetExecutionContext, lake: Lake, dataset: DatasetSpec) -> tuple[Ingested, RawView]:
    reported = time.monotonic()

    def progress(records: int) -> None:
        nonlocal reported
        if time.monotonic() - reported > 30:
            context.log.info(f"{dataset.name}: {records:,} records read")
            reported = time.monotonic()

    try:
        made = ingest(lake.store, dataset, progress)
    except DamagedSnapshot as error:
        context.log.warning(f"{dataset.name}: {error}; it is removed and the source read anew")
        lake.store.delete(error.path)
        made = ingest(lake.store, dataset, progress)
    view = _view(lake, made.manifest, dataset)
    if not made.created and view.faults:
        context.log.warning(f"{dataset.name}: {view.faults[0]}; its manifest is retired and the source read anew")
        lake.store.delete(f"{_folder(made.manifest)}/{layout.MANIFEST}")
        made = ingest(lake.store, dataset, progress)
        view = _view(lake, made.manifest, dataset)
    elif not made.created:
        context.log.info(f"{dataset.name}: the source is unchanged, snapshot {made.manifest.snapshot} is adopted")
    for warning in made.manifest.warnings:
        context.log.warning(f"{dataset.name}: {warning}")
    return made, view


def _folder(raw: RawManifest) -> str:
    return layout.raw_folder(raw.dataset, raw.snapshot)


def _view(lake: Lake, raw: RawManifest, dataset: DatasetSpec) -> RawView:
    return RawView(
        lake.store, _folder(raw), raw.files, range(raw.rows), raw.rejects, raw=raw, max_rejects=dataset.max_rejects
    )


def _metadata(lake: Lake, made: Ingested) -> dict[str, Any]:
    raw = made.manifest
    return {
        "dagster/row_count": raw.rows,
        "dagster/uri": lake.url(_folder(raw)),
        "dagster/column_schema": column_schema(raw),
        "snapshot": raw.snapshot,
        "adopted": not made.created,
        "records": raw.records,
        "rejects": sum(raw.rejects_by_reason.values()),
        "rejects_by_reason": raw.rejects_by_reason,
        "nulled_values": raw.nulled,
        "where_matched": raw.matched,
        "warnings": raw.warnings,
        "text_megabytes": round(raw.text_bytes / 1e6, 3),
        **_lengths(lake, raw),
        "files": len(raw.files),
        "bytes": sum(file.bytes for file in raw.files),
        "seconds": raw.seconds,
        "source": raw.source,
    }


def _lengths(lake: Lake, raw: RawManifest) -> dict[str, Any]:
    """A picture is never worth a snapshot."""
    try:
        found = lengths_metadata(lake.store, raw)
    except Exception as error:  # as many kinds as there are stores
        return {"text_lengths": f"unknown: {' '.join(str(error).split())[:300]}"}
    return {**found, "text_lengths": dg.MetadataValue.md(found["text_lengths"])} if found else {}
