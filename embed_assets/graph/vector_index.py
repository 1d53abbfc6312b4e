"""vector_index: a LanceDB table a dataset, built from its complete set of committed shards."""

from typing import Any

import dagster as dg

from embed_assets.estimate.costs import read_costs, total_of
from embed_assets.graph.common import (
    EMBEDDING_DIGEST,
    EMBEDDING_SHARDS,
    VECTOR_INDEX,
    asset_key,
    current_snapshot,
    current_strides,
    group_of,
)
from embed_assets.graph.partitions import PipelinePartitions
from embed_assets.index.table import ShardInput, build_table, table_rows
from embed_assets.settings import Settings
from embed_assets.spec import EmbeddingPipeline
from embed_worker.extras import MissingExtra
from embed_worker.lake import layout
from embed_worker.lake.errors import DamagedData, LakeError, NotReady
from embed_worker.lake.layout import ShardId
from embed_worker.lake.parallel import in_parallel
from resources.lake import Lake

DESCRIPTION = """The vectors of a dataset in a LanceDB table, ready to search.

Built from committed shards only: while one is missing, it says which and builds nothing. The table is replaced in
one step, so a reader sees the old one or the new one."""

COMPLETE = "complete"


def build_vector_index(
    pipeline: EmbeddingPipeline, partitions: PipelinePartitions, settings: Settings
) -> dg.AssetsDefinition:
    key, options = asset_key(pipeline, VECTOR_INDEX), pipeline.op.of(VECTOR_INDEX)

    @dg.asset(
        key=key,
        description=DESCRIPTION,
        partitions_def=partitions.datasets,
        group_name=group_of(pipeline),
        owners=list(pipeline.owners),
        tags=pipeline.translation.tags,
        pool=options.pool,
        op_tags=options.tags,
        kinds={"lancedb"},
        code_version=pipeline.embedding.spec_id,
        deps=[
            dg.AssetDep(asset_key(pipeline, EMBEDDING_SHARDS), partition_mapping=partitions.strides_to_dataset),
            asset_key(pipeline, EMBEDDING_DIGEST),
        ],
        check_specs=[
            dg.AssetCheckSpec(
                COMPLETE,
                asset=key,
                description="The table has one row for each vector of the committed shards.",
                partitions_def=partitions.datasets,
            )
        ],
    )
    def vector_index(context: dg.AssetExecutionContext, lake: dg.ResourceParam[Lake]) -> dg.MaterializeResult:  # type: ignore[type-arg]
        name = context.partition_key
        try:
            inputs = _shards(lake, pipeline, name)
            made = build_table(lake, pipeline.embedding.spec_id, name, inputs)
            cost = _cost(lake, pipeline, name)
        except (LakeError, MissingExtra) as error:
            cure = "; materialize its partition again" if isinstance(error, DamagedData) else ""
            raise dg.Failure(f"{error}{cure}", allow_retries=False) from error
        if not made.created:
            context.log.info(f"{name}: the table holds these very shards already; nothing to do")
        expected = sum(shard.manifest.windows for shard in inputs)
        found = table_rows(lake, pipeline.embedding.spec_id, name)
        return dg.MaterializeResult(
            metadata={
                "dagster/row_count": found,
                "dagster/uri": made.uri,
                "table": name,
                "adopted": not made.created,
                "shards": len(inputs),
                "dimension": inputs[0].manifest.dimension,
                "spec_id": pipeline.embedding.spec_id,
                "digest": made.digest,
                "ann_index": made.ann_index,
                "seconds": made.seconds,
                **cost,
            },
            data_version=dg.DataVersion(made.digest),
            check_results=[
                dg.AssetCheckResult(
                    check_name=COMPLETE,
                    passed=found == expected,
                    description=f"{found:,} rows in the table, {expected:,} vectors in the shards",
                    metadata={"rows": found, "vectors": expected},
                )
            ],
        )

    return vector_index


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


def _shards(lake: Lake, pipeline: EmbeddingPipeline, name: str) -> list[ShardInput]:
    """Every shard of the dataset, in order. Raises NotReady with the missing partitions."""
    dataset = pipeline.dataset(name)
    raw = current_snapshot(lake, dataset)
    current_strides(lake, dataset, raw)
    partitioning = dataset.partitioning_of(raw.snapshot)
    found: list[ShardInput] = []
    missing: list[str] = []
    shards = [ShardId.of(name, pipeline.embedding.spec_id, partitioning, i) for i in range(dataset.strides)]
    for shard, manifest in zip(shards, in_parallel(lake.shard, shards), strict=True):
        if manifest is None:
            missing.append(shard.key)
        else:
            found.append(ShardInput(manifest, layout.strides_folder(name, partitioning), manifest.input.files))
    if missing:
        listed = ", ".join(missing[:20]) + (f" and {len(missing) - 20} more" if len(missing) > 20 else "")
        raise NotReady(
            f"{len(missing)} of {dataset.strides} embedding_shards of {name} are not committed: {listed}. "
            "Materialize them first"
        )
    return found
