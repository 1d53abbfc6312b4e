"""embedding_set: the complete, checked set of a dataset's shards. The gate before the index."""

from collections.abc import Iterator, Sequence
from typing import Any

import dagster as dg

from embed_assets.graph.assets.gate import complete_set
from embed_assets.graph.dagster_events import PartitionRun
from embed_assets.graph.definition import recorded_asset
from embed_assets.graph.keys import EMBEDDING_SET, EMBEDDING_SHARDS, asset_key
from embed_assets.graph.partitions import PipelinePartitions
from embed_assets.settings import Settings
from embed_assets.spec import EmbeddingPipeline
from embed_assets.tell.lineage import set_schema
from embed_worker.lake import failpoints, layout
from embed_worker.lake.errors import LakeError, NotReady
from embed_worker.lake.sets import SetManifest, publish_set
from resources.lake import Lake

DESCRIPTION = """The complete, checked set of a dataset's vectors: what is published.

Made only when every shard of the snapshot is committed and its checks, kept in the lake, are green; otherwise it names
the partitions that stand in the way, and readers keep the set before. The run that commits a dataset's last shard
makes it; materializing it asks again."""


def build_embedding_set(
    pipeline: EmbeddingPipeline, partitions: PipelinePartitions, settings: Settings
) -> dg.AssetsDefinition:
    key = asset_key(pipeline, EMBEDDING_SET)

    @recorded_asset(
        pipeline, EMBEDDING_SET, settings, partitions.datasets,
        description=DESCRIPTION,
        code_version=pipeline.embedding.spec_id,
        deps=[dg.AssetDep(asset_key(pipeline, EMBEDDING_SHARDS), partition_mapping=partitions.strides_to_dataset)],
        kinds=["json"],
        about={"spec_id": pipeline.embedding.spec_id},
    )  # fmt: skip
    def embedding_set(context: dg.AssetExecutionContext, lake: dg.ResourceParam[Lake]) -> Iterator[Any]:
        run = PartitionRun.of_step(context, key)
        names = run.partitions()
        make_sets(run, lake, pipeline, names)
        yield from run.finish(len(names))

    return embedding_set


def make_sets(
    run: PartitionRun, lake: Lake, pipeline: EmbeddingPipeline, names: Sequence[str], *, record_all: bool = True
) -> list[str]:
    """Makes and records the sets of these datasets; those that are there now."""
    made: list[str] = []
    for name in names:
        try:
            record_set(run, lake, complete_set(lake, pipeline, name, check=True), record_all=record_all)
        except LakeError as error:
            run.failed(name, str(error))
        else:
            made.append(name)
    return made


def record_set(run: PartitionRun, lake: Lake, found: SetManifest, *, record_all: bool) -> None:
    """Publishes a complete set, and logs its event; without `record_all` only where Dagster does not know it."""
    name = found.dataset
    inputs = run.provenance.inputs([name])[name]
    created = publish_set(lake.store, found)
    failpoints.reach("record.set")
    if record_all or run.provenance.recorded([name]).get(name) != found.digest:
        run.committed(
            name, data_version=found.digest, metadata=_metadata(lake, found, created), inputs=inputs, checks={}
        )


class SetWatch:
    """Makes a dataset's set when a run of embedding_shards has committed the last of its shards that it was given,
    if the others are there: whoever finds it complete makes it, whatever number of runs made the shards."""

    def __init__(self, run: PartitionRun, lake: Lake, pipeline: EmbeddingPipeline) -> None:
        """`run`: of embedding_set."""
        self._run, self._lake, self._pipeline = run, lake, pipeline

    def look(self, dataset: str) -> bool:
        """Whether the set is there."""
        try:
            found = complete_set(self._lake, self._pipeline, dataset, check=False)
            record_set(self._run, self._lake, found, record_all=False)
        except NotReady as why:
            self._run.tell(f"embedding_set of {dataset} is not made: {why}")
        except LakeError as error:
            self._run.tell(f"embedding_set of {dataset} is not made: {error}; materialize it", warning=True)
        else:
            return True
        return False


def _metadata(lake: Lake, found: SetManifest, created: bool) -> dict[str, Any]:
    return {
        "dagster/partition_row_count": found.rows,
        "dagster/uri": lake.url(
            f"{layout.set_folder(found.dataset, found.spec_id, found.ingest_id)}/{found.digest}.json"
        ),
        "dagster/column_schema": set_schema(found),
        "shards": len(found.members),
        "rows_added": found.delta.shard.rows if found.delta and found.delta.shard else 0,
        "rows_removed": sum(one.rows_removed for one in found.shards),
        "windows": found.windows,
        "rejects": sum(shard.rows_rejected for shard in found.shards),
        "tokens": sum(shard.tokens for shard in found.shards),
        "bytes": sum(file.bytes for shard in found.shards for file in shard.files),
        "next": "vector_index of this dataset",
        "details": {
            "base": found.snapshot,
            "latest": found.latest,
            "partitioning": found.partitioning.name,
            "spec_id": found.spec_id,
            "adopted": not created,
        },
    }
