"""What each partition of embedding_shards is to be made from, and with."""

import time
from collections.abc import Callable
from pathlib import Path

from tenacity import RetryCallState, Retrying, retry_if_exception_type, wait_exponential

from embed_assets.checks.shard import ShardView
from embed_assets.graph.ready import current_snapshot, current_strides
from embed_assets.spec import DatasetSpec, EmbeddingPipeline
from embed_worker.lake import layout
from embed_worker.lake.errors import NotReady, StoreAway
from embed_worker.lake.job import EmbedJob
from embed_worker.lake.layout import Partitioning, ShardId
from embed_worker.lake.manifests import InputRef, ShardManifest, StridesManifest
from embed_worker.lake.snapshots import RawManifest
from resources.lake import Lake

PATIENCE = 300.0
"""Seconds that a run waits for a lake that is away when the run begins. Once its jobs are known it waits for ever."""

_Inputs = tuple[DatasetSpec, RawManifest, StridesManifest, Partitioning]


class ShardJobs:
    """Turns partition keys into jobs; reads each dataset's manifests once a run."""

    def __init__(self, pipeline: EmbeddingPipeline, lake: Lake, warn: Callable[[str], None]) -> None:
        self._pipeline, self._lake, self._warn = pipeline, lake, warn
        self._known: dict[str, _Inputs | str] = {}
        deadline = time.monotonic() + PATIENCE
        self._patiently = Retrying(
            retry=retry_if_exception_type(StoreAway),
            wait=wait_exponential(min=1, max=60),
            stop=lambda _: time.monotonic() > deadline,
            before_sleep=self._tell,
            reraise=True,
        )

    def job(self, partition: str) -> EmbedJob:
        """Raises NotReady where an input is missing."""
        name, stride = layout.split_partition_key(partition)
        _, _, strides, partitioning = self._inputs(name)
        entry = strides.strides[stride]
        spec = self._pipeline.embedding
        if spec.location is not None and "://" not in spec.location:
            spec = spec.model_copy(update={"location": str(Path(spec.location).expanduser().absolute())})
        folder = layout.strides_folder(name, partitioning)
        return EmbedJob(
            pipeline=self._pipeline.name,
            shard=ShardId.of(name, spec.spec_id, partitioning, stride),
            lake=self._lake.store.root,
            input=InputRef(path=folder, digest=entry.digest, rows=entry.rows, files=entry.files),
            spec=spec,
            checkpoint_rows=self._pipeline.checkpoint_rows,
        )

    def view(self, job: EmbedJob, manifest: ShardManifest) -> ShardView:
        shard = job.shard
        _, raw, *_ = self._inputs(shard.dataset)
        expected = shard.partitioning.row_ids(shard.stride, raw.rows)
        assert isinstance(expected, range)
        return ShardView(self._lake.store, shard, manifest, expected)

    def _inputs(self, name: str) -> _Inputs:
        if name not in self._known:
            try:
                self._known[name] = self._patiently(self._read, self._pipeline.dataset(name))
            except (NotReady, StoreAway) as error:
                self._known[name] = str(error)
        known = self._known[name]
        if isinstance(known, str):
            raise NotReady(known)
        return known

    def _read(self, dataset: DatasetSpec) -> _Inputs:
        raw = current_snapshot(self._lake, dataset)
        strides = current_strides(self._lake, dataset, raw)
        return dataset, raw, strides, dataset.partitioning_of(raw.snapshot)

    def _tell(self, state: RetryCallState) -> None:
        assert state.outcome is not None
        self._warn(f"the lake does not answer ({state.outcome.exception()}); asking again")
