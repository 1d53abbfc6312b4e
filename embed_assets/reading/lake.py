"""The lake as a user asks it: all that the platform asks, and the vectors."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from embed_assets.reading.frames import frame_of
from embed_assets.spec import DatasetSpec
from embed_assets.spec.given import Given, as_pipeline
from embed_worker.lake import layout
from embed_worker.lake.errors import DamagedData, NotReady
from embed_worker.lake.layout import ShardId
from embed_worker.lake.manifests import ShardManifest, Space, read_manifest
from embed_worker.lake.parallel import in_parallel
from embed_worker.lake.sets import current_set
from resources import lake

if TYPE_CHECKING:
    import polars as pl

NAMED = 20
"""Partitions that an error names."""

Missing = Literal["raise", "skip"]


class Lake(lake.Lake):
    """A lake: what is committed in it, and its vectors as Polars frames."""

    def scan(
        self,
        pipeline: Given,
        dataset: str,
        *,
        partition: str | Sequence[str] | None = None,
        missing: Missing = "raise",
        storage_options: Mapping[str, Any] | None = None,
    ) -> "pl.LazyFrame":
        """The vectors of a dataset's current set, as embedding_set has published it: a row a window, by partition.
        Where there is no set yet, and for `partition`, those of the current snapshot's shards.

        `pipeline` may be the path of its YAML; `partition` is a key of `embedding_shards`, or several. The call reads
        manifests only; the files are read when the frame is collected, and of them what the query needs.
        `storage_options` are Polars's own, beside those of the lake. Raises NotReady where partitions are not
        committed, unless they may be skipped.
        """
        pipeline = as_pipeline(pipeline)
        spec, described = pipeline.embedding, pipeline.dataset(dataset)
        keys = _keys(described, partition)
        if partition is None and (published := current_set(self.store, dataset, spec.spec_id, described.ingest_id)):
            folders = [published.shard_id(shard.stride).folder for shard in published.shards]
            files = [
                f"{at}/{file.path}" for at, shard in zip(folders, published.shards, strict=True) for file in shard.files
            ]
            return frame_of(self.store, files, published.dtype, published.dimension or 0, storage_options or {})
        raw = self.base(dataset, described.ingest_id)
        if raw is None:
            raise NotReady(f"raw_reviews of {dataset} is not in {self.root}; materialize it first")
        cut = self.cut(raw, described.cut)
        if cut is None:
            raise NotReady(f"stride_partitions of {dataset} are not in {self.root}; materialize them first")
        strides = [layout.split_partition_key(key)[1] for key in keys]
        shards = [ShardId.of(dataset, spec.spec_id, cut.partitioning, s, cut.strides[s].digest) for s in strides]
        found = in_parallel(self.shard, shards)
        absent = [shard.key for shard, manifest in zip(shards, found, strict=True) if manifest is None]
        if absent and missing == "raise":
            more = f" and {len(absent) - NAMED} more" if len(absent) > NAMED else ""
            raise NotReady(
                f"{len(absent)} of {len(shards)} embedding_shards of {dataset} are not committed: "
                f"{', '.join(absent[:NAMED])}{more}. Materialize them first, or pass missing='skip'"
            )
        there = [manifest for manifest in found if manifest is not None]
        files = [f"{manifest.shard.folder}/{file.path}" for manifest in there for file in manifest.files]
        dimension = self._dimension(there, spec.spec_id)
        return frame_of(self.store, files, spec.output_dtype, dimension, storage_options or {})

    def _dimension(self, manifests: list[ShardManifest], spec_id: str) -> int:
        """Components of a vector; where these shards have none, those of the other shards' vectors."""
        by_dimension = {manifest.dimension: manifest.shard.key for manifest in manifests if manifest.dimension}
        if len(by_dimension) > 1:
            told = ", ".join(f"{key} has {dimension}" for dimension, key in by_dimension.items())
            raise DamagedData(f"shards of {spec_id} differ in the components of a vector: {told}")
        if by_dimension:
            return next(iter(by_dimension))
        space = read_manifest(self.store, layout.canaries_file(spec_id), Space)
        return space.canaries.dimension if space is not None else 0


def _keys(dataset: DatasetSpec, partition: str | Sequence[str] | None) -> list[str]:
    """Keys of the partitions that are asked for. Raises ValueError where one is none of the dataset's."""
    known = dataset.partition_keys()
    if partition is None:
        return known
    keys = [partition] if isinstance(partition, str) else list(partition)
    if strange := sorted(set(keys) - set(known)):
        raise ValueError(f"{dataset.name} has no partition {strange[0]!r}; it has {known[0]} to {known[-1]}")
    return keys
