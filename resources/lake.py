"""The lake as the platform asks it."""

import uuid
from functools import cached_property

from embed_worker.lake import layout
from embed_worker.lake.errors import BadManifest
from embed_worker.lake.job import EmbedJob
from embed_worker.lake.layout import Partitioning, ShardId
from embed_worker.lake.manifests import Latest, RawManifest, ShardManifest, StridesManifest, now, read_manifest
from embed_worker.lake.store import Store, to_json


class Lake:
    """Where snapshots, strides and shards live. Knows what is committed; the manifests decide."""

    def __init__(self, root: str) -> None:
        self.root = root

    @cached_property
    def store(self) -> Store:
        return Store(self.root)

    def url(self, path: str) -> str:
        return self.store.url(path)

    def latest_snapshot(self, dataset: str) -> RawManifest | None:
        """The snapshot that `_latest.json` names, or None before the first."""
        try:
            latest = read_manifest(self.store, layout.raw_latest(dataset), Latest)
        except BadManifest as error:
            raise BadManifest(f"{error}; materialize raw_reviews again") from error
        if latest is None:
            return None
        folder = layout.raw_folder(dataset, latest.snapshot)
        return read_manifest(self.store, f"{folder}/{layout.MANIFEST}", RawManifest)

    def strides(self, dataset: str, partitioning: Partitioning) -> StridesManifest | None:
        path = f"{layout.strides_folder(dataset, partitioning)}/{layout.MANIFEST}"
        return read_manifest(self.store, path, StridesManifest)

    def shard(self, shard: ShardId) -> ShardManifest | None:
        """A shard's manifest, or None while it is not committed."""
        return read_manifest(self.store, shard.manifest_path, ShardManifest)

    def write_job(self, job: EmbedJob) -> str:
        """Puts the job file where the worker finds it; the same job is the same file. Returns its URL."""
        mine = to_json(job.model_dump(mode="json"))
        if not self.store.create(job.path, mine) and self.store.read(job.path) != mine:
            self.store.replace(job.path, mine)  # damaged, or not ours
        return self.store.url(job.path)

    def retire(self, shard: ShardId, judged: ShardManifest | None) -> bool:
        """Takes a damaged shard out of the readers' sight, so that it can be made anew.

        `judged` is the manifest that was found wanting, None where it could not be read. False where another one is
        there by now, or none: somebody else repairs the shard. Its files stay until the next manifest is there: an
        attempt that is still at work may be about to commit them.
        """
        path = shard.manifest_path
        try:
            data = self.store.read(path)
            there = self.shard(shard)
        except FileNotFoundError:
            return False
        except BadManifest:
            there = None
        if (there and there.model_dump_json()) != (judged and judged.model_dump_json()):
            return False
        stamp = now().replace(":", "").replace("+0000", "Z")
        name = f"{layout.RETIRED}{stamp}-{uuid.uuid4().hex[:6]}.json"
        self.store.create(f"{shard.folder}/{name}", data)
        self.store.delete(path)
        return True
