"""One job from start to commit: read → reuse → tokenise → engine → checkpoints → parts → manifest."""

import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pyarrow as pa

from embed_worker.attempt.checkpoints import Checkpoints
from embed_worker.attempt.commit import Made, commit_shard
from embed_worker.attempt.feeder import Feeder
from embed_worker.attempt.hardware import hardware, this_attempt
from embed_worker.attempt.health import Health
from embed_worker.attempt.heartbeat import Pulse
from embed_worker.attempt.known import Known, all_known, gather, keys_of
from embed_worker.attempt.lanes import SINGLE, Lane
from embed_worker.attempt.open_checkpoint import OpenCheckpoint, open_checkpoint
from embed_worker.attempt.parts import Parts
from embed_worker.attempt.patience import NONE, Patience, PatientStore
from embed_worker.attempt.starts import beginning, check_starts
from embed_worker.attempt.writing import Writing
from embed_worker.engine.loading import LoadedModel, load_tokenizer
from embed_worker.engine.tokens import TextTokenizer
from embed_worker.errors import BadJob, NeedsEngine, Preempted, SickEngine
from embed_worker.lake import failpoints
from embed_worker.lake.damage import cure_of
from embed_worker.lake.errors import BadManifest, DamagedData, StoreUnavailable
from embed_worker.lake.job import EmbedJob
from embed_worker.lake.manifests import ShardManifest, read_manifest
from embed_worker.lake.spec import EmbeddingSpec
from embed_worker.lake.store import Store
from embed_worker.lake.strides import Stride, bring
from embed_worker.lake.table import shard_schema

log = logging.getLogger(__name__)

LoadModel = Callable[[], LoadedModel]
LoadTokenizer = Callable[[EmbeddingSpec], TextTokenizer]


def run_job(
    job: EmbedJob,
    load: LoadModel,
    stop: threading.Event,
    tokenizer: LoadTokenizer = load_tokenizer,
    lane: Lane = SINGLE,
    composing: bool = False,
    patience: Patience = NONE,
) -> bool:
    """Embeds and commits one partition. False where it was committed already, also by a twin meanwhile.

    Raises Preempted when `stop` is set, BadJob where no attempt can succeed; any other error is worth a retry.
    A `lane` other than the first embeds its share of the checkpoints and leaves the commit to the first. Where earlier
    shards have a vector of every text, neither model nor tokenizer is loaded; where it is `composing`, anything else
    raises NeedsEngine, and the lake does not hear of the attempt.
    """
    with beginning():
        store = PatientStore(job.lake, patience)
        if _committed(store, job):
            log.info("%s is committed already", job.shard.key)
            Checkpoints(store, job).sweep()  # of an attempt that died between its commit and its sweep
            return False
    try:
        return _Attempt(store, job, load, tokenizer, stop, lane).run(composing)
    except Preempted:
        raise
    except Exception as error:
        with suppress(StoreUnavailable, OSError):  # what went wrong first decides the exit code
            if _committed(Store(job.lake), job):
                log.info("%s was committed by another attempt meanwhile (%s)", job.shard.key, error)
                Checkpoints(store, job).sweep()
                return False
        raise


def _committed(store: Store, job: EmbedJob) -> ShardManifest | None:
    try:
        return read_manifest(store, job.shard.manifest_path, ShardManifest)
    except BadManifest as error:
        raise BadJob(f"{error}; {cure_of(job.shard.manifest_path)}") from error


class _Attempt:
    def __init__(
        self, store: Store, job: EmbedJob, load: LoadModel, tokenizer: LoadTokenizer, stop: threading.Event, lane: Lane
    ) -> None:
        self.store, self.job, self.load, self.stop, self.lane = store, job, load, stop, lane
        self.load_tokenizer = tokenizer
        self.name = uuid.uuid4().hex[:8]
        self.checkpoints = Checkpoints(store, job)
        self.seconds: dict[str, float] = {}
        self.embedded, self.unusable = False, dict[str, str]()
        self.open: dict[int, OpenCheckpoint] = {}
        self.over = threading.Event()

    def run(self, composing: bool = False) -> bool:
        started, attempt = time.monotonic(), this_attempt(self.name, self.lane.facts)
        if composing:
            self._check_known()
        with beginning():
            self.checkpoints.register(attempt)
            failpoints.reach("attempt.registered")
            if self.lane.commits:
                check_starts(self.store, self.checkpoints, attempt.skypilot_job_id)
        log.info("%s: attempt %s, %d rows", self.job.shard.key, self.name, self.job.input.rows)
        with self.store.scratch() as scratch, Pulse(Store(self.job.lake), self.job, attempt) as self.heartbeat:
            stride = self._timed("read", lambda: self._fetch_input(scratch))  # proved before any compute is spent
            self.known = self._known()
            failpoints.reach("attempt.fetched")
            earlier = self._timed("reuse", lambda: self._reused(stride, scratch)) if self.job.reuse else None
            self.parts = Parts(self.store, self.job, self.checkpoints, scratch)
            if earlier is not None and earlier.complete and not self.embedded:
                made = self._compose(earlier, stride, scratch)
            else:
                made = self._embed(earlier, stride, scratch)
            if not self.lane.commits:
                log.info("%s: lane %s is done", self.job.shard.key, self.lane.facts["lane"])
                return False
            self.heartbeat.update(phase="committing")
            failpoints.reach("attempt.embedded")
            seconds = {**self.seconds, "total": time.monotonic() - started}
            won = commit_shard(
                self.store, self.job, self.checkpoints, self.parts, scratch, made, hardware(self.lane.count),
                {phase: round(value, 3) for phase, value in seconds.items()}, self.unusable,
            )  # fmt: skip
            self.heartbeat.update(phase="committed")
        failpoints.reach("attempt.committed")
        if _committed(self.store, self.job):
            self.checkpoints.sweep()
        log.info("%s: %s", self.job.shard.key, "committed" if won else "committed by another attempt first")
        return won

    def _timed(self, phase: str, work: Callable[[], Any]) -> Any:
        begin = time.monotonic()
        try:
            return work()
        finally:
            self._spent(phase, time.monotonic() - begin)

    def _spent(self, phase: str, seconds: float) -> None:
        self.seconds[phase] = self.seconds.get(phase, 0.0) + seconds

    def _reused(self, stride: Stride, scratch: Path) -> Known | None:
        self.heartbeat.update(phase="reusing")
        return gather(self.store, self.job, keys_of(stride.unordered()), scratch, self.unusable)

    def _fetch_input(self, scratch: Path) -> Stride:
        try:
            stride = bring(self.store, self.job.spans, scratch)
            stride.prove(self.job.input.rows_digest)
        except DamagedData as error:
            raise BadJob(f"{error}. Re-materialize stride_partitions, then this partition") from error
        return stride

    def _check_known(self) -> None:
        """Raises NeedsEngine unless earlier shards know every text. Most inputs with new texts have one in their first
        slice: the others are then not read."""
        if not self.job.reuse:
            raise NeedsEngine("there is no earlier shard")
        for spans in [self.job.spans[:1], self.job.spans] if len(self.job.spans) > 1 else [self.job.spans]:
            with self.store.scratch() as scratch:
                keys = keys_of(bring(self.store, spans, scratch).unordered())
                if not all_known(self.store, self.job, keys, scratch):
                    raise NeedsEngine("earlier shards do not know every text")

    def _known(self) -> set[int]:
        """The checkpoints that are committed already, of this input and spec."""
        known = set()
        for index in self.checkpoints.committed():
            try:
                record = self.checkpoints.record(index)
            except DamagedData as error:
                log.warning("%s: making checkpoint %d anew: %s", self.job.shard.key, index, error)
                continue
            known.add(index)
            self.embedded |= record.rows_embedded > 0
            self.heartbeat.add(rows=record.rows, tokens=record.tokens)
        return known

    def _feeder(self, tokenizer: TextTokenizer | None, stride: Stride, earlier: Known | None) -> Feeder:
        prompt = self.job.spec.prompts.document

        def make(index: int, table: pa.Table) -> OpenCheckpoint | None:
            if index in self.known:
                return None
            if self.checkpoints.is_committed(index):  # by a twin, meanwhile
                self.heartbeat.add(rows=table.num_rows, tokens=0)
                return None
            if index < len(self.parts.records):
                raise DamagedData(f"checkpoint {index} was taken back after its part was written")
            if self.store.exists(self.job.shard.manifest_path):
                raise DamagedData("the checkpoints are swept: another attempt has committed the partition")
            return self._timed("tokenise", lambda: open_checkpoint(index, table, tokenizer, prompt, earlier))  # type: ignore[no-any-return]

        return Feeder(self._tables(stride), make, ahead=self.lane.ahead)

    def _tables(self, stride: Stride) -> Iterator[tuple[int, pa.Table]]:
        """This lane's checkpoints, then what the other lanes have left undone."""
        for turn in self.lane.turns(lambda: self.stop.is_set() or self.over.is_set(), self.checkpoints.committed):
            for index, table in enumerate(stride.tables(self.job.checkpoint_rows)):
                if turn(index):
                    yield index, table

    def _writing(self, dimension: int, scratch: Path) -> Writing:
        return Writing(
            self.job, self.name, self.checkpoints, self.parts, self.known, self.lane, self.heartbeat,
            shard_schema(self.job, dimension), scratch, self._spent,
        )  # fmt: skip

    def _compose(self, earlier: Known, stride: Stride, scratch: Path) -> Made:
        """Every text is known: the canaries and the engine are those of an earlier shard."""
        base = earlier.bases[0]
        self.heartbeat.update(phase="composing", hardware=hardware().note())
        feeder = self._feeder(None, stride, earlier)
        try:
            with self._writing(base.dimension, scratch) as writing:

                def begin(checkpoint: OpenCheckpoint) -> None:
                    if self.stop.is_set():
                        raise Preempted("told to stop; the committed checkpoints are kept")
                    checkpoint.begin(base.dimension, self.job.spec.output_dtype)
                    writing.finish(checkpoint)

                feeder.begin = begin
                while feeder.take(block=True) is not None:
                    raise AssertionError("a checkpoint of known texts asks for an engine")
                writing.drain()
        finally:
            self.over.set()
            feeder.stop()
        return Made(base.manifest.canaries, base.manifest.engine, base.shard.folder)

    def _embed(self, earlier: Known | None, stride: Stride, scratch: Path) -> Made:
        self.heartbeat.update(phase="loading model")
        tokenizer = self.load_tokenizer(self.job.spec)
        feeder = self._feeder(tokenizer, stride, earlier)  # decodes and tokenises while the model is loaded
        try:
            model = self._timed("load_model", self.load)
            failpoints.reach("attempt.loaded")
            self.heartbeat.update(phase="embedding", hardware=hardware().note(), engine=model.engine.versions())
            self._run_engine(model, feeder, scratch)
        finally:
            self.over.set()
            feeder.stop()
        return Made(model.canaries, model.engine.versions())

    def _run_engine(self, model: LoadedModel, feeder: Feeder, scratch: Path) -> None:
        from embed_worker.attempt.vector_cache import VectorCache  # not there where partitions are composed

        clock, health, cache = model.engine.clock, Health(model), VectorCache()
        before = dict(clock.seconds)
        with self._writing(model.engine.dimension, scratch) as writing:

            def finish(checkpoint: OpenCheckpoint) -> None:
                del self.open[checkpoint.index]
                writing.finish(checkpoint)

            def complete(checkpoint: OpenCheckpoint) -> None:
                if checkpoint.without_vector:
                    feeder.go_first(health.question(checkpoint))
                else:
                    finish(checkpoint)

            def begin(checkpoint: OpenCheckpoint) -> None:
                checkpoint.begin(model.engine.dimension, self.job.spec.output_dtype)
                self.open[checkpoint.index] = checkpoint
                if checkpoint.recall(cache) == 0:
                    complete(checkpoint)

            feeder.begin = begin
            with closing(model.engine.embed(feeder)) as results:
                for (index, sequence), vector in results:
                    if self.stop.is_set():
                        raise Preempted("told to stop; the committed checkpoints are kept")
                    if index < 0:
                        if (sound := health.answer((index, sequence), vector)) is not None:
                            finish(sound)
                        continue
                    checkpoint = self.open[index]
                    last = checkpoint.put(sequence, vector)
                    if not isinstance(vector, str) and sequence not in checkpoint.without_vector:
                        cache.put(checkpoint.sequences[sequence], vector)
                    if last:
                        complete(checkpoint)
            if self.stop.is_set():
                raise Preempted("told to stop; the committed checkpoints are kept")
            writing.drain()
        for kind, spent in clock.seconds.items():
            self.seconds[f"engine_{kind}"] = spent - before[kind]
        try:
            health.check()
        except SickEngine:  # since when, nobody knows
            for index in writing.made:
                self.checkpoints.retire(index)
            raise
