"""The lake as a Dagster resource."""

from functools import cached_property

import dagster as dg
from pydantic import Field

from embed_worker import layout
from embed_worker.job import EmbedJob
from embed_worker.layout import Partitioning
from embed_worker.manifests import BadManifest, RawManifest, ShardManifest, StridesManifest, now, read_manifest
from embed_worker.store import Store


class LakeResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Where snapshots, strides and shards live. Knows what is committed; the manifests decide."""

    root: str = Field(description="Folder or object-store URL (s3://, gs://, az://) of the lake.")

    @cached_property
    def store(self) -> Store:
        return Store(self.root)

    def url(self, path: str) -> str:
        return self.store.url(path)

    def latest_snapshot(self, dataset: str) -> RawManifest | None:
        """The snapshot that `_latest.json` names, or None before the first."""
        path = layout.raw_latest(dataset)
        if not self.store.exists(path):
            return None
        try:
            folder = layout.raw_folder(dataset, str(self.store.read_json(path)["snapshot"]))
        except (ValueError, KeyError, TypeError) as error:
            raise BadManifest(
                f"{self.store.url(path)} does not name a snapshot ({error}); materialize raw_reviews again"
            ) from error
        return read_manifest(self.store, f"{folder}/{layout.MANIFEST}", RawManifest)

    def strides(self, dataset: str, partitioning: Partitioning) -> StridesManifest | None:
        path = f"{layout.strides_folder(dataset, partitioning)}/{layout.MANIFEST}"
        return read_manifest(self.store, path, StridesManifest)

    def shard(self, folder: str) -> ShardManifest | None:
        """The manifest of an embedding partition, or None while it is not committed."""
        return read_manifest(self.store, f"{folder}/{layout.MANIFEST}", ShardManifest)

    def write_job(self, job: EmbedJob) -> str:
        """Puts the job file where the worker finds it; the same job is the same file. Returns its URL."""
        self.store.create_json(job.path, job.model_dump(mode="json"))
        return self.store.url(job.path)

    def retire(self, folder: str) -> None:
        """Takes a damaged shard out of the readers' sight, manifest first, so that it can be made anew."""
        path = f"{folder}/{layout.MANIFEST}"
        stamp = now().replace(":", "").replace("+0000", "Z")
        self.store.create(f"{folder}/_retired-{stamp}.json", self.store.read(path))
        self.store.delete(path)
        for name in self.store.list(folder):
            if name.endswith(".parquet"):
                self.store.delete(f"{folder}/{name}")
