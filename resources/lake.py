"""The lake as the platform asks it."""

import logging
import uuid
from datetime import UTC, datetime
from functools import cached_property
from typing import TypeVar

from pydantic import BaseModel

from embed_worker.lake import layout
from embed_worker.lake.damage import cure_of
from embed_worker.lake.deltas import DeltaManifest, Rows, no_delta
from embed_worker.lake.errors import BadManifest, StoreUnavailable
from embed_worker.lake.heartbeats import GivenUp, given_up_file
from embed_worker.lake.job import EmbedJob
from embed_worker.lake.layout import Partitioning, ShardId
from embed_worker.lake.manifests import ShardManifest, StridesManifest, now, read_manifest
from embed_worker.lake.snapshots import Pointer, RawManifest
from embed_worker.lake.store import Store, to_json

log = logging.getLogger(__name__)

M = TypeVar("M", bound=BaseModel)


class Lake:
    """Where snapshots, strides and shards live. Knows what is committed; the manifests decide."""

    def __init__(self, root: str) -> None:
        self.root = root

    @cached_property
    def store(self) -> Store:
        return Store(self.root)

    def url(self, path: str) -> str:
        return self.store.url(path)

    def base(self, dataset: str, ingest_id: str) -> RawManifest | None:
        """The snapshot that `_base.json` names, or None before the first."""
        return self._pointed(layout.raw_base(dataset, ingest_id), dataset, ingest_id)

    def latest(self, dataset: str, ingest_id: str) -> RawManifest | None:
        """The snapshot that `_latest.json` names: of the source as it was read last."""
        return self._pointed(layout.raw_latest(dataset, ingest_id), dataset, ingest_id)

    def delta(self, base: RawManifest) -> DeltaManifest | None:
        """What the latest snapshot has and lacks against the base, or None while that is not made."""
        latest = self._manifest(layout.raw_latest(base.dataset, base.ingest_id), Pointer)
        if latest is None or latest.snapshot == base.snapshot:
            return no_delta(base)
        path = layout.delta_file(base.dataset, base.ingest_id, base.snapshot, latest.snapshot)
        return self._manifest(path, DeltaManifest)

    def _pointed(self, pointer: str, dataset: str, ingest_id: str) -> RawManifest | None:
        found = self._manifest(pointer, Pointer)
        if found is None:
            return None
        return self._manifest(layout.snapshot_file(dataset, ingest_id, found.snapshot), RawManifest)

    def cut(self, raw: Rows, partitioning: Partitioning) -> StridesManifest | None:
        """A snapshot's cut, or that of what a delta adds; None while it is not committed."""
        folder = layout.strides_folder(raw.dataset, raw.ingest_id, partitioning)
        return self._manifest(layout.cut_file(folder, raw.snapshot), StridesManifest)

    def shard(self, shard: ShardId) -> ShardManifest | None:
        """A shard's manifest, or None while it is not committed."""
        return self._manifest(shard.manifest_path, ShardManifest)

    def _manifest(self, path: str, model: type[M]) -> M | None:
        """BadManifest names the cure."""
        try:
            return read_manifest(self.store, path, model)
        except BadManifest as error:
            raise BadManifest(f"{error}; {cure_of(path)}") from error

    def write_job(self, job: EmbedJob) -> str:
        """Puts the job file where the worker finds it; the same job is the same file. Returns its URL.

        One that is there is written again: it may be damaged, and its time is that of the last launch.
        """
        self.store.replace(job.path, to_json(job.model_dump(mode="json")))
        return self.store.url(job.path)

    def give_up(self, job: EmbedJob, why: str) -> None:
        """Leaves word that no further attempt at a shard is made, for `status` and the monitor."""
        word = GivenUp(shard=job.shard, at=datetime.now(UTC).replace(microsecond=0), error=why)
        try:
            self.store.replace(given_up_file(job), to_json(word.model_dump(mode="json", exclude_none=True)))
        except StoreUnavailable as fault:  # a word is never worth a run
            log.warning("not noted in the lake that %s is given up: %s", job.shard, fault)

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
