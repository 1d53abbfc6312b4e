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
from embed_worker.lake.removed import removed_ids
from embed_worker.lake.sets import SetManifest, SetShard, current_set, set_of
from embed_worker.lake.snapshots import RawManifest
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
        snapshot: str | None = None,
        missing: Missing = "raise",
        storage_options: Mapping[str, Any] | None = None,
    ) -> "pl.LazyFrame":
        """The vectors of a dataset's current set, as embedding_set has published it: a row a window, by partition.
        Where there is no set yet, and for `partition`, those of the current snapshot's shards.

        `pipeline` may be the path of its YAML; `partition` is a key of `embedding_shards`, or several. `snapshot` is an
        earlier one of which gc has kept the set, or that set's digest. The call reads
        manifests only; the files are read when the frame is collected, and of them what the query needs.
        `storage_options` are Polars's own, beside those of the lake. Raises NotReady where partitions are not
        committed, unless they may be skipped.
        """
        pipeline = as_pipeline(pipeline)
        spec, described = pipeline.embedding, pipeline.dataset(dataset)
        if snapshot is not None:
            which = dataset, spec.spec_id, described.ingest_id
            if partition is not None:
                raise ValueError("a snapshot is read as a whole: pass `partition` or `snapshot`")
            if (earlier := set_of(self.store, *which, snapshot)) is None:
                raise NotReady(
                    f"no set of snapshot {snapshot} of {dataset} is in {self.root}: it was never made, or gc has "
                    "removed it; `keep_sets` says how many are kept"
                )
            return self._published(earlier, storage_options or {})
        keys = _keys(described, partition)
        if partition is None and (published := current_set(self.store, dataset, spec.spec_id, described.ingest_id)):
            return self._published(published, storage_options or {})
        raw = self.base(dataset, described.ingest_id)
        if raw is None:
            raise NotReady(f"raw_reviews of {dataset} is not in {self.root}; materialize it first")
        shards = self._shards(described, raw, spec.spec_id, keys)
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

    def _published(self, published: SetManifest, options: Mapping[str, Any]) -> "pl.LazyFrame":
        """The base's shards without the rows that the delta has removed, then the delta's."""

        def frame(members: Sequence[tuple[ShardId, SetShard]]) -> "pl.LazyFrame":
            files = [f"{shard.folder}/{file.path}" for shard, one in members for file in one.files]
            return frame_of(self.store, files, published.dtype, published.dimension or 0, options)

        gone = removed_ids(self.store, published)
        if not len(gone):
            return frame(published.members)
        import polars as pl

        left_out = pl.LazyFrame({"id": pl.Series(gone.to_pylist(), dtype=pl.String())})
        base, delta = published.members[: published.count], published.members[published.count :]
        return pl.concat([frame(base).join(left_out, on="id", how="anti"), frame(delta)])

    def _shards(self, dataset: DatasetSpec, raw: RawManifest, spec_id: str, keys: Sequence[str]) -> list[ShardId]:
        """Of these partitions, as the base and the latest snapshot are cut; a delta without rows has none."""
        found = []
        strides = [layout.split_partition_key(key)[1] for key in keys]
        if any(stride is not None for stride in strides):
            cut = self.cut(raw, dataset.cut)
            if cut is None:
                raise NotReady(f"stride_partitions of {dataset.name} are not in {self.root}; materialize them first")
            found = [
                ShardId.of(dataset.name, spec_id, cut.partitioning, stride, cut.strides[stride].digest)
                for stride in strides
                if stride is not None
            ]
        if None in strides and (delta := self.delta(raw)) is not None and delta.rows:
            found.append(ShardId.of(dataset.name, spec_id, layout.WHOLE, 0, delta.rows_digest))
        return found

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
        return known[:-1]  # of the base: what a delta removes, its set knows
    keys = [partition] if isinstance(partition, str) else list(partition)
    if strange := sorted(set(keys) - set(known)):
        raise ValueError(f"{dataset.name} has no partition {strange[0]!r}; it has {known[0]} to {known[-1]}")
    return keys
