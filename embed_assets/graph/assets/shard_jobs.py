"""What each partition of embedding_shards is to be made from, and with."""

import time
from collections.abc import Callable
from pathlib import Path

from tenacity import RetryCallState, Retrying, retry_if_exception_type, wait_exponential

from embed_assets.checks.shard import ShardView
from embed_assets.graph.ready import current_delta, current_snapshot, current_strides, delta_strides
from embed_assets.spec import DatasetSpec, EmbeddingPipeline
from embed_worker.lake import layout
from embed_worker.lake.errors import BadManifest, DamagedData, LakeError, NotReady, StoreAway
from embed_worker.lake.job import EmbedJob
from embed_worker.lake.layout import ShardId
from embed_worker.lake.manifests import InputRef, ShardManifest, StridesManifest
from embed_worker.steps.cut import empty_cut
from embed_worker.steps.spans import Spans, spans_of
from resources.bases import Bases
from resources.lake import Lake

PATIENCE = 300.0
"""Seconds that a run waits for a lake that is away when the run begins. Once its jobs are known it waits for ever."""

_Inputs = tuple[StridesManifest, Spans]


class NothingAdded(LakeError):
    """The delta adds no row: there is no shard to be made."""


class ShardJobs:
    """Turns partition keys into jobs; reads each dataset's manifests once a run."""

    def __init__(
        self, pipeline: EmbeddingPipeline, lake: Lake, warn: Callable[[str], None], *, reuse: bool = True
    ) -> None:
        """Without `reuse`, every text is to be embedded."""
        self._pipeline, self._lake, self._warn, self._reuse = pipeline, lake, warn, reuse
        self._bases = Bases(lake.store, pipeline.embedding.spec_id)
        self._known: dict[tuple[str, bool], _Inputs | str] = {}
        deadline = time.monotonic() + PATIENCE
        self._patiently = Retrying(
            retry=retry_if_exception_type(StoreAway),
            wait=wait_exponential(min=1, max=60),
            stop=lambda _: time.monotonic() > deadline,
            before_sleep=self._tell,
            reraise=True,
        )

    def job(self, partition: str) -> EmbedJob:
        """Raises NotReady where an input is missing, NothingAdded of a delta without rows. It names no earlier shard:
        see `with_reuse`."""
        name, number = layout.split_partition_key(partition)
        cut, spans = self._inputs(name, number is None)
        stride = number or 0
        entry = cut.strides[stride]
        if cut.method == layout.DELTA and not entry.rows:
            raise NothingAdded(f"the delta of {name} adds no row")
        spec = self._pipeline.embedding
        if spec.location is not None and "://" not in spec.location:
            spec = spec.model_copy(update={"location": str(Path(spec.location).expanduser().absolute())})
        return EmbedJob(
            pipeline=self._pipeline.name,
            shard=ShardId.of(name, spec.spec_id, cut.partitioning, stride, entry.digest),
            lake=self._lake.store.root,
            input=InputRef(path=cut.folder, digest=entry.digest, rows=entry.rows),
            spans=spans[stride],
            spec=spec,
            checkpoint_rows=self._pipeline.checkpoint_rows,
        )

    def with_reuse(self, job: EmbedJob) -> EmbedJob:
        """The job with the earlier shards that may hold vectors of its texts. Raises StoreUnavailable."""
        if not self._reuse:
            return job
        others = self._pipeline.dataset(job.shard.dataset).known_from
        return job.model_copy(update={"reuse": self._patiently(self._bases.of, job.shard, others)})

    def view(self, job: EmbedJob, manifest: ShardManifest) -> ShardView:
        return ShardView(self._lake.store, job.shard, manifest, job.input.rows_digest)

    def _inputs(self, name: str, is_delta: bool) -> _Inputs:
        which = name, is_delta
        if which not in self._known:
            try:
                self._known[which] = self._patiently(self._read, self._pipeline.dataset(name), is_delta)
            except (NotReady, StoreAway) as error:
                self._known[which] = str(error)
        known = self._known[which]
        if isinstance(known, str):
            raise NotReady(known)
        return known

    def _read(self, dataset: DatasetSpec, is_delta: bool) -> _Inputs:
        base = current_snapshot(self._lake, dataset)
        if is_delta:
            delta = current_delta(self._lake, base)
            cut = delta_strides(self._lake, delta) if delta.rows else empty_cut(delta)
        else:
            cut = current_strides(self._lake, dataset, base)
        try:
            return cut, spans_of(self._lake.store, cut)
        except (DamagedData, BadManifest) as error:
            raise NotReady(f"{error}; materialize stride_partitions of {dataset.name} again") from error

    def _tell(self, state: RetryCallState) -> None:
        assert state.outcome is not None
        self._warn(f"the lake does not answer ({state.outcome.exception()}); asking again")
