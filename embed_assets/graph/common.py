"""What the assets of a pipeline share: keys, group, owners, check specs; and the lake's state that they begin from."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import dagster as dg

from embed_assets.spec import DatasetSpec, EmbeddingPipeline
from embed_worker.lake.errors import NotReady
from embed_worker.lake.manifests import RawManifest, StridesManifest
from resources.lake import Lake

RAW_REVIEWS, STRIDE_PARTITIONS = "raw_reviews", "stride_partitions"
EMBEDDING_SHARDS, EMBEDDING_SET, VECTOR_INDEX = "embedding_shards", "embedding_set", "vector_index"
ASSETS = (RAW_REVIEWS, STRIDE_PARTITIONS, EMBEDDING_SHARDS, EMBEDDING_SET, VECTOR_INDEX)

STORAGE_KINDS = {"s3": "s3", "gs": "gcs", "gcs": "gcs", "az": "azure", "abfs": "azure", "abfss": "azure"}

NO_RETRIES = {"dagster/retry_on_asset_or_op_failure": "false"}
"""Of a run: the driver has tried again already, and what is left no second run cures."""


def asset_key(pipeline: EmbeddingPipeline, name: str) -> dg.AssetKey:
    return dg.AssetKey(pipeline.translation.path(pipeline.name, name))


def group_of(pipeline: EmbeddingPipeline) -> str:
    return pipeline.translation.group or pipeline.name


def asset_options(pipeline: EmbeddingPipeline) -> dict[str, Any]:
    """Group, owners and tags of each asset."""
    return {
        "group_name": group_of(pipeline),
        "owners": list(pipeline.owners),
        "tags": {"embed/pipeline": pipeline.name, **pipeline.translation.tags},
    }


def storage_kind(lake: str) -> str | None:
    """Dagster's kind for where a lake lies; None for a disk."""
    return STORAGE_KINDS.get(lake.partition("://")[0]) if "://" in lake else None


def spec_options(
    pipeline: EmbeddingPipeline, kinds: Iterable[str | None], about: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """`about`: metadata of the definition beside the pipeline's own."""
    described = {"pipeline": pipeline.description} if pipeline.description else {}
    return {
        **asset_options(pipeline),
        "kinds": {kind for kind in kinds if kind},
        "metadata": {**described, "model": pipeline.embedding.model, **(about or {})},
    }


def op_options(pipeline: EmbeddingPipeline, name: str) -> dict[str, Any]:
    """Pool and tags of the op that makes an asset."""
    options = pipeline.op.of(name)
    return {"pool": options.pool, "op_tags": options.tags}


def backfill_policy(partitions: int, per_run: int) -> dg.BackfillPolicy:
    """One run where all partitions fit into one: `dg launch --partition-range` takes no other policy."""
    return dg.BackfillPolicy.single_run() if partitions <= per_run else dg.BackfillPolicy.multi_run(per_run)


def source_deps(pipeline: EmbeddingPipeline) -> list[dg.AssetDep]:
    """The assets that the sources are made by; however they are partitioned, a dataset reads all of them."""
    return [
        dg.AssetDep(dg.AssetKey.from_user_string(key), partition_mapping=dg.AllPartitionMapping())
        for key in pipeline.deps()
    ]


def check_specs(
    key: dg.AssetKey, checks: dict[str, Callable[..., Any]], partitions: dg.PartitionsDefinition[Any]
) -> list[dg.AssetCheckSpec]:
    """One partitioned check spec each; the function's docstring is the description in the UI."""
    return [
        dg.AssetCheckSpec(name, asset=key, description=check.__doc__, partitions_def=partitions)
        for name, check in checks.items()
    ]


def current_snapshot(lake: Lake, dataset: DatasetSpec) -> RawManifest:
    """Raises NotReady where there is none, or where it is another pipeline's: rows of another filter are not ours."""
    raw = lake.latest_snapshot(dataset.name)
    if raw is None:
        raise NotReady(f"raw_reviews of {dataset.name} is not in {lake.root}; materialize it first")
    if differs := _differences(raw.ingest, dataset.ingest_identity()):
        raise NotReady(
            f"snapshot {raw.snapshot} of {dataset.name} was made with another {', '.join(differs)} than this "
            "pipeline's; materialize raw_reviews again. Where another code location writes to this lake, give one of "
            "the two datasets another name"
        )
    return raw


def sampled(raw: RawManifest, dataset: DatasetSpec) -> bool:
    """Whether the snapshot has only the first of the rows that the pipeline asks for."""
    return bool(raw.ingest.get("rows") != dataset.ingest_identity()["rows"])


def _differences(made: Mapping[str, Any], asked: Mapping[str, Any]) -> list[str]:
    """Keys in which a snapshot was made otherwise; a sample of the same rows is no difference."""
    differs = [key for key in asked if made.get(key) != asked[key]]
    if differs == ["rows"]:
        begun, ended = made.get("rows") or {}, asked["rows"]
        end = begun.get("end")
        if begun.get("start") == ended["start"] and end is not None and end <= (ended["end"] or end):
            return []
    return differs


def current_strides(lake: Lake, dataset: DatasetSpec, raw: RawManifest) -> StridesManifest:
    partitioning = dataset.partitioning_of(raw.snapshot)
    strides = lake.strides(dataset.name, partitioning)
    if strides is None:
        raise NotReady(
            f"stride_partitions of {dataset.name} are not there for snapshot {raw.snapshot} "
            f"({partitioning.count} strides, {partitioning.method}); materialize them first"
        )
    return strides
