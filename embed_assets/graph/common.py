"""What the assets of a pipeline share: keys, group, owners, check specs."""

from collections.abc import Callable, Iterable
from typing import Any

import dagster as dg

from embed_assets.spec import DatasetSpec, EmbeddingPipeline
from embed_worker.lake.errors import NotReady
from embed_worker.lake.manifests import RawManifest, StridesManifest
from resources.lake import Lake

RAW_REVIEWS, STRIDE_PARTITIONS = "raw_reviews", "stride_partitions"
EMBEDDING_SHARDS, EMBEDDING_DIGEST, VECTOR_INDEX = "embedding_shards", "embedding_digest", "vector_index"


def asset_key(pipeline: EmbeddingPipeline, name: str) -> dg.AssetKey:
    return dg.AssetKey(pipeline.translation.path(pipeline.name, name))


def group_of(pipeline: EmbeddingPipeline) -> str:
    return pipeline.translation.group or pipeline.name


def asset_options(pipeline: EmbeddingPipeline) -> dict[str, Any]:
    """Group, owners and tags of each asset."""
    return {
        "group_name": group_of(pipeline),
        "owners": list(pipeline.owners),
        "tags": pipeline.translation.tags,
    }


def spec_options(pipeline: EmbeddingPipeline, kinds: Iterable[str]) -> dict[str, Any]:
    return {
        **asset_options(pipeline),
        "kinds": set(kinds),
        "skippable": True,  # no implicit Output: the events are logged at each commit
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
    raw = lake.latest_snapshot(dataset.name)
    if raw is None:
        raise NotReady(f"raw_reviews of {dataset.name} is not in {lake.root}; materialize it first")
    return raw


def current_strides(lake: Lake, dataset: DatasetSpec, raw: RawManifest) -> StridesManifest:
    partitioning = dataset.partitioning_of(raw.snapshot)
    strides = lake.strides(dataset.name, partitioning)
    if strides is None:
        raise NotReady(
            f"stride_partitions of {dataset.name} are not there for snapshot {raw.snapshot} "
            f"({partitioning.count} strides, {partitioning.method}); materialize them first"
        )
    return strides
