"""One job from start to commit: read → tokenise → engine → checkpoints → parts → manifest."""

import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pyarrow as pa

from embed_worker.attempt.checkpoints import CheckpointRecord, Checkpoints
from embed_worker.attempt.commit import commit_shard
from embed_worker.attempt.feeder import Feeder
from embed_worker.attempt.hardware import hardware, this_attempt
from embed_worker.attempt.health import Health
from embed_worker.attempt.heartbeat import Pulse
from embed_worker.attempt.lanes import SINGLE, Lane
from embed_worker.attempt.open_checkpoint import OpenCheckpoint, open_checkpoint
from embed_worker.attempt.parts import Parts
from embed_worker.attempt.patience import NONE, Patience, PatientStore
from embed_worker.attempt.starts import beginning, check_starts
from embed_worker.attempt.vector_cache import VectorCache
from embed_worker.engine.loading import LoadedModel, load_tokenizer
from embed_worker.engine.tokens import TextTokenizer
from embed_worker.errors import BadJob, Preempted, SickEngine
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

UNWRITTEN = 2
"""Finished checkpoints that may wait to be written before the engine is held back."""

LoadModel = Callable[[], LoadedModel]
LoadTokenizer = Callable[[EmbeddingSpec], TextTokenizer]


def run_job(
    job: EmbedJob,
    load: LoadModel,
    stop: threading.Event,
    tokenizer: LoadTokenizer = load_tokenizer,
    lane: Lane = SINGLE,
    patience: Patience = NONE,
) -> bool:
    """Embeds and commits one partition. False where it was committed already, also by a twin meanwhile.

    Raises Preempted when `stop` is set, BadJob where no attempt can succeed; any other error is worth a retry.
    A `lane` other than the first embeds its share of the checkpoints and leaves the commit to the first.
    """
    with beginning():
        store = PatientStore(job.lake, patience)
        if _committed(store, job):
            log.info("%s is committed already", job.shard.key)
            Checkpoints(store, job).sweep()  # of an attempt that died between its commit and its sweep
            return False
    try:
        return _Attempt(store, job, load, tokenizer, stop, lane).run()
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
        manifest = read_manifest(store, job.shard.manifest_path, ShardManifest)
    except BadManifest as error:
        raise BadJob(f"{error}; {cure_of(job.shard.manifest_path)}") from error
    return manifest


class _Attempt:
    def __init__(
        self,
        store: Store,
        job: EmbedJob,
        load: LoadModel,
        tokenizer: LoadTokenizer,
        stop: threading.Event,
        lane: Lane,
    ) -> None:
        self.store, self.job, self.load, self.stop, self.lane = store, job, load, stop, lane
        self.load_tokenizer = tokenizer
        self.name = uuid.uuid4().hex[:8]
        self.checkpoints = Checkpoints(store, job)
        self.seconds: dict[str, float] = {}
        self.open: dict[int, OpenCheckpoint] = {}
        self.made: set[int] = set()
        self.writing: list[Future[None]] = []
        self.cache = VectorCache()
        self.over = threading.Event()

    def run(self) -> bool:
        started, attempt = time.monotonic(), this_attempt(self.name, self.lane.facts)
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
            self.parts = Parts(self.store, self.job, self.checkpoints, scratch)
            self.heartbeat.update(phase="loading model")
            tokenizer = self.load_tokenizer(self.job.spec)
            feeder = self._feeder(tokenizer, stride)  # decodes and tokenises while the model is loaded
            try:
                model = self._timed("load_model", self.load)
                failpoints.reach("attempt.loaded")
                self.heartbeat.update(phase="embedding", hardware=hardware().note(), engine=model.engine.versions())
                self._embed(model, feeder, scratch)
            finally:
                self.over.set()
                feeder.stop()
            if not self.lane.commits:
                log.info("%s: lane %s is done", self.job.shard.key, self.lane.facts["lane"])
                return False
            self.heartbeat.update(phase="committing")
            failpoints.reach("attempt.embedded")
            seconds = {**self.seconds, "total": time.monotonic() - started}
            won = commit_shard(
                self.store,
                self.job,
                self.checkpoints,
                self.parts,
                scratch,
                canaries=model.canaries,
                engine=model.engine.versions(),
                hardware=hardware(self.lane.count),
                seconds={phase: round(value, 3) for phase, value in seconds.items()},
            )
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
            self.seconds[phase] = self.seconds.get(phase, 0.0) + time.monotonic() - begin

    def _fetch_input(self, scratch: Path) -> Stride:
        try:
            stride = bring(self.store, self.job.spans, scratch)
            stride.prove(self.job.input.rows_digest)
        except DamagedData as error:
            raise BadJob(f"{error}. Re-materialize stride_partitions, then this partition") from error
        return stride

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
            self.heartbeat.add(rows=record.rows, tokens=record.tokens)
        return known

    def _feeder(self, tokenizer: TextTokenizer, stride: Stride) -> Feeder:
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
            return self._timed("tokenise", lambda: open_checkpoint(index, table, tokenizer, prompt))  # type: ignore[no-any-return]

        return Feeder(self._tables(stride), make, ahead=self.lane.ahead)

    def _tables(self, stride: Stride) -> Iterator[tuple[int, pa.Table]]:
        """This lane's checkpoints, then what the other lanes have left undone."""
        for turn in self.lane.turns(lambda: self.stop.is_set() or self.over.is_set(), self.checkpoints.committed):
            for index, table in enumerate(stride.tables(self.job.checkpoint_rows)):
                if turn(index):
                    yield index, table

    def _embed(self, model: LoadedModel, feeder: Feeder, scratch: Path) -> None:
        schema = shard_schema(self.job, model.engine.dimension)
        clock, health = model.engine.clock, Health(model)
        before = dict(clock.seconds)
        self._last_finish = time.monotonic()
        with ThreadPoolExecutor(1, thread_name_prefix="writer") as writer:

            def complete(checkpoint: OpenCheckpoint) -> None:
                if checkpoint.without_vector:
                    feeder.go_first(health.question(checkpoint))
                else:
                    self._finish(checkpoint, writer, schema, scratch)

            def begin(checkpoint: OpenCheckpoint) -> None:
                checkpoint.begin(model.engine.dimension, self.job.spec.output_dtype)
                self.open[checkpoint.index] = checkpoint
                if checkpoint.recall(self.cache) == 0:
                    complete(checkpoint)

            feeder.begin = begin
            with closing(model.engine.embed(feeder)) as results:
                for (index, sequence), vector in results:
                    if self.stop.is_set():
                        raise Preempted("told to stop; the committed checkpoints are kept")
                    if index < 0:
                        if (sound := health.answer((index, sequence), vector)) is not None:
                            self._finish(sound, writer, schema, scratch)
                        continue
                    checkpoint = self.open[index]
                    last = checkpoint.put(sequence, vector)
                    if not isinstance(vector, str) and sequence not in checkpoint.without_vector:
                        self.cache.put(checkpoint.sequences[sequence], vector)
                    if last:
                        complete(checkpoint)
            if self.stop.is_set():
                raise Preempted("told to stop; the committed checkpoints are kept")
            begun = time.monotonic()
            for future in self.writing:
                future.result()
            self.seconds["write_tail"] = time.monotonic() - begun
        for kind, spent in clock.seconds.items():
            self.seconds[f"engine_{kind}"] = spent - before[kind]
        try:
            health.check()
        except SickEngine:  # since when, nobody knows
            for index in self.made:
                self.checkpoints.retire(index)
            raise

    def _finish(self, checkpoint: OpenCheckpoint, writer: ThreadPoolExecutor, schema: pa.Schema, scratch: Path) -> None:
        """Hands a finished checkpoint to the writer; waits only when the writer is behind."""
        del self.open[checkpoint.index]
        at = time.monotonic()
        engine_seconds, self._last_finish = at - self._last_finish, at
        unwritten = {future for future in self.writing if not future.done()}
        while len(unwritten) >= UNWRITTEN:
            unwritten = wait(unwritten, return_when=FIRST_COMPLETED).not_done
        for future in self.writing:
            if future not in unwritten:
                future.result()
        self.writing = list(unwritten)
        self.writing.append(writer.submit(self._write, checkpoint, schema, engine_seconds, scratch))

    def _write(self, checkpoint: OpenCheckpoint, schema: pa.Schema, engine_seconds: float, scratch: Path) -> None:
        begun = time.monotonic()
        kept = checkpoint.kept()
        table = checkpoint.table(schema)
        record = CheckpointRecord(
            index=checkpoint.index,
            rows=checkpoint.rows,
            input_digest=self.job.input.digest,
            spec_id=self.job.shard.spec_id,
            attempt=self.name,
            data=None,
            dimension=schema.field("embedding").type.list_size if table is not None else None,
            windows=len(kept),
            tokens=int(checkpoint.n_tokens[kept].sum()),
            duplicate_windows=len(checkpoint.row_of) - len(checkpoint.sequences) + checkpoint.recalled,
            rejects=checkpoint.all_rejects(),
            engine_seconds=round(engine_seconds, 4),
        )
        first = self.checkpoints.commit(record, table, scratch)
        self.heartbeat.add(rows=checkpoint.rows, tokens=record.tokens if first else 0)
        if first:
            self.made.add(checkpoint.index)
        if self.lane.commits:
            self.known.add(checkpoint.index)
            self.parts.advance(self.known if self.lane.count == 1 else self.checkpoints.committed())
        self.seconds["write"] = self.seconds.get("write", 0.0) + time.monotonic() - begun
