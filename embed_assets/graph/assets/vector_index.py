"""vector_index: a LanceDB table a dataset, built from its complete, checked set."""

from collections.abc import Iterator, Sequence
from typing import Any

import dagster as dg

from embed_assets.checks.outcome import Check, CheckOutcome, all_failed, run_checks
from embed_assets.estimate.costs import read_costs, total_of
from embed_assets.graph.dagster_events import PartitionRun
from embed_assets.graph.definition import recorded_asset
from embed_assets.graph.keys import EMBEDDING_SET, EMBEDDING_SHARDS, STRIDE_PARTITIONS, VECTOR_INDEX, asset_key
from embed_assets.graph.partitions import PipelinePartitions
from embed_assets.index.table import BuiltTable, ShardInput, build_table, table_rows
from embed_assets.settings import Settings
from embed_assets.spec import EmbeddingPipeline
from embed_assets.tell.lineage import index_lineage, index_schema
from embed_worker.extras import MissingExtra
from embed_worker.lake import layout
from embed_worker.lake.errors import DamagedData, LakeError, NotReady
from embed_worker.lake.manifests import StridesManifest, read_manifest
from embed_worker.lake.parallel import in_parallel
from embed_worker.lake.removed import removed_ids
from embed_worker.lake.sets import SetManifest, current_set
from embed_worker.steps.spans import spans_of
from resources.lake import Lake

DESCRIPTION = """The vectors of a dataset in a LanceDB table, ready to search.

Built from the dataset's current embedding_set, so of complete, checked vectors only. The table is replaced in one
step: a reader sees the old one or the new one."""


def build_vector_index(
    pipeline: EmbeddingPipeline, partitions: PipelinePartitions, settings: Settings
) -> dg.AssetsDefinition:
    key = asset_key(pipeline, VECTOR_INDEX)

    @recorded_asset(
        pipeline, VECTOR_INDEX, settings, partitions.datasets,
        description=DESCRIPTION,
        code_version=pipeline.embedding.spec_id,
        deps=[asset_key(pipeline, EMBEDDING_SET)],
        kinds=["lancedb"],
        about={"spec_id": pipeline.embedding.spec_id},
        checks=INDEX_CHECKS,
    )  # fmt: skip
    def vector_index(context: dg.AssetExecutionContext, lake: dg.ResourceParam[Lake]) -> Iterator[Any]:
        run = PartitionRun.of_step(context, key)
        names = run.partitions()
        if run.checks_only:
            check_indexes(run, lake, pipeline, names)
        else:
            make_indexes(run, lake, pipeline, names)
        yield from run.finish(len(names))

    return vector_index


def make_indexes(
    run: PartitionRun, lake: Lake, pipeline: EmbeddingPipeline, names: Sequence[str], *, record_all: bool = True
) -> list[str]:
    """Builds and records the tables of these datasets; those that are there now."""
    inputs = run.provenance.inputs(names)
    known = {} if record_all else run.provenance.recorded(names)
    there: list[str] = []
    for name in names:
        try:
            found = _set(lake, pipeline, name)
            shards = _shards(lake, found)
            made = build_table(lake, found, shards)
            there.append(name)
            if not made.created and known.get(name) == made.digest:
                continue
            cost = _cost(lake, pipeline, name)
        except (LakeError, MissingExtra) as error:
            cure = "; materialize its partition again" if isinstance(error, DamagedData) else ""
            run.failed(name, f"{error}{cure}")
            continue
        if not made.created:
            run.tell(f"{name}: the table holds these very shards already; nothing to do")
        checks = run_checks(INDEX_CHECKS, run.selected_checks, (lake, found))
        run.committed(
            name,
            data_version=made.digest,
            metadata={**_metadata(pipeline, found, made, table_rows(lake, found.spec_id, name)), **cost},
            inputs=inputs[name],
            checks=checks,
        )
    return there


def check_indexes(run: PartitionRun, lake: Lake, pipeline: EmbeddingPipeline, names: Sequence[str]) -> None:
    """Runs the checks of these datasets' tables again."""
    for name in names:
        run.checked(name, _check(run, lake, pipeline, name))


def complete(view: tuple[Lake, SetManifest]) -> CheckOutcome:
    """The table has one row for each vector of the set."""
    lake, found = view
    rows = table_rows(lake, found.spec_id, found.dataset)
    text = f"{rows:,} rows in the table, {found.windows:,} vectors in the set"
    return CheckOutcome(rows == found.windows, text, {"rows": rows, "vectors": found.windows})


INDEX_CHECKS: dict[str, Check[tuple[Lake, SetManifest]]] = {"complete": complete}


def _check(run: PartitionRun, lake: Lake, pipeline: EmbeddingPipeline, name: str) -> dict[str, CheckOutcome]:
    try:
        return run_checks(INDEX_CHECKS, run.selected_checks, (lake, _set(lake, pipeline, name)))
    except LakeError as error:
        return all_failed(run.selected_checks, str(error))


def _set(lake: Lake, pipeline: EmbeddingPipeline, name: str) -> SetManifest:
    found = current_set(lake.store, name, pipeline.embedding.spec_id, pipeline.dataset(name).ingest_id)
    if found is None:
        raise NotReady(f"embedding_set of {name} is not in {lake.root}; materialize it first")
    return found


def _shards(lake: Lake, found: SetManifest) -> list[ShardInput]:
    """Every shard of the set, in order. Raises NotReady where one has changed or gone since."""
    spans = spans_of(lake.store, _cut(lake, found, found.partitioning, found.snapshot))
    added = None
    if found.delta is not None and found.delta.shard is not None:
        name = f"{found.snapshot}-{found.delta.latest}"
        added = spans_of(lake.store, _cut(lake, found, layout.WHOLE, name))
    removed = removed_ids(lake.store, found)
    inputs = []
    shards = [shard for shard, _ in found.members]
    for (shard, known), manifest in zip(found.members, in_parallel(lake.shard, shards), strict=True):
        if manifest is None or manifest.data_version != known.data_version:
            what = "is not committed any more" if manifest is None else "was made anew"
            raise NotReady(f"{shard.key} {what} since embedding_set was made; materialize embedding_set again")
        if shard.method == layout.DELTA and added is not None:
            inputs.append(ShardInput(manifest, added[0], known.windows))
        else:
            left = known.windows - known.windows_removed
            inputs.append(ShardInput(manifest, spans[shard.stride], left, removed if known.rows_removed else None))
    return inputs


def _cut(lake: Lake, found: SetManifest, partitioning: layout.Partitioning, snapshot: str) -> StridesManifest:
    """A cut that a set was made of: the passages come from it."""
    folder = layout.strides_folder(found.dataset, found.ingest_id, partitioning)
    cut = read_manifest(lake.store, layout.cut_file(folder, snapshot), StridesManifest)
    if cut is None:
        raise NotReady(
            f"stride_partitions of {found.dataset} are gone for snapshot {snapshot}; materialize them, then "
            "embedding_set"
        )
    return cut


def _metadata(pipeline: EmbeddingPipeline, found: SetManifest, made: BuiltTable, rows: int) -> dict[str, Any]:
    shards, strides = (asset_key(pipeline, name) for name in (EMBEDDING_SHARDS, STRIDE_PARTITIONS))
    return {
        "dagster/partition_row_count": rows,
        "dagster/uri": made.uri,
        "dagster/table_name": found.dataset,
        "dagster/column_schema": index_schema(found, pipeline.embedding.model),
        "dagster/column_lineage": index_lineage(shards, strides),
        "dimension": found.dimension,
        "seconds": made.seconds,
        "next": f'embed-assets search "…" --dataset {found.dataset}',
        "details": {
            "adopted": not made.created,
            "set": found.digest,
            "shards": found.count,
            "spec_id": found.spec_id,
            "digest": made.digest,
            "ann_index": made.ann_index,
        },
    }


def _cost(lake: Lake, pipeline: EmbeddingPipeline, dataset: str) -> dict[str, Any]:
    """Of all jobs that worked on the dataset with this spec; nothing where the backend has no prices."""
    spec_id = pipeline.embedding.spec_id
    try:
        costs = [c for c in read_costs(lake.store, pipeline.name) if (c.dataset, c.spec_id) == (dataset, spec_id)]
    except LakeError as error:  # the table is built, and a cost is never worth a run
        return {"cost": f"unknown: {error}"}
    if not costs:
        return {}
    spent = total_of(costs)
    found: dict[str, Any] = {"cost": spent.text(), "cost_jobs_unknown": spent.unknown}
    if spent.unknown < spent.jobs:
        found["cost_dollars"] = round(spent.usd, 4)
    if spent.on_demand_usd is not None:
        found["on_demand_dollars"] = round(spent.on_demand_usd, 4)
    return found
