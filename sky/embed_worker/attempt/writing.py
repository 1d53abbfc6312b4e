"""Finished checkpoints on their way into the lake, in a thread of their own."""

import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from types import TracebackType

import pyarrow as pa

from embed_worker.attempt.checkpoints import CheckpointRecord, Checkpoints
from embed_worker.attempt.heartbeat import Pulse
from embed_worker.attempt.lanes import Lane
from embed_worker.attempt.open_checkpoint import OpenCheckpoint
from embed_worker.attempt.parts import Parts
from embed_worker.lake.job import EmbedJob

UNWRITTEN = 2
"""Finished checkpoints that may wait to be written before the engine is held back."""


class Writing:
    """Commits checkpoints, and the parts that they complete. A context: its thread ends with it."""

    def __init__(
        self, job: EmbedJob, attempt: str, checkpoints: Checkpoints, parts: Parts, known: set[int], lane: Lane,
        heartbeat: Pulse, schema: pa.Schema, scratch: Path, spent: Callable[[str, float], None],
    ) -> None:  # fmt: skip
        """`known`: the checkpoints that are committed already. `spent` is told seconds by phase."""
        self._job, self._attempt, self._checkpoints, self._parts = job, attempt, checkpoints, parts
        self._known, self._lane, self._heartbeat = known, lane, heartbeat
        self._schema, self._scratch, self._spent = schema, scratch, spent
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="writer")
        self._waiting: list[Future[None]] = []
        self._last_finish = time.monotonic()
        self.made: set[int] = set()

    def __enter__(self) -> "Writing":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._thread.shutdown()

    def finish(self, checkpoint: OpenCheckpoint) -> None:
        """Hands a finished checkpoint to the thread; waits only when that is behind."""
        at, engine_seconds = time.monotonic(), 0.0
        if checkpoint.sequences:
            engine_seconds, self._last_finish = at - self._last_finish, at
        unwritten = {future for future in self._waiting if not future.done()}
        while len(unwritten) >= UNWRITTEN:
            unwritten = wait(unwritten, return_when=FIRST_COMPLETED).not_done
        for future in self._waiting:
            if future not in unwritten:
                future.result()
        self._waiting = list(unwritten)
        self._waiting.append(self._thread.submit(self._write, checkpoint, engine_seconds))

    def drain(self) -> None:
        """Waits for all of them."""
        begun = time.monotonic()
        for future in self._waiting:
            future.result()
        self._spent("write_tail", time.monotonic() - begun)

    def _write(self, checkpoint: OpenCheckpoint, engine_seconds: float) -> None:
        begun = time.monotonic()
        kept = checkpoint.kept()
        table = checkpoint.table(self._schema)
        record = CheckpointRecord(
            index=checkpoint.index,
            rows=checkpoint.rows,
            input_digest=self._job.input.digest,
            spec_id=self._job.shard.spec_id,
            attempt=self._attempt,
            data=None,
            dimension=self._schema.field("embedding").type.list_size if table is not None else None,
            windows=len(kept),
            tokens=int(checkpoint.n_tokens[kept].sum()),
            duplicate_windows=checkpoint.duplicates,
            reused=checkpoint.reused(),
            rejects=checkpoint.all_rejects(),
            engine_seconds=round(engine_seconds, 4),
        )
        first = self._checkpoints.commit(record, table, self._scratch)
        self._heartbeat.add(rows=checkpoint.rows, tokens=record.tokens if first else 0)
        if first:
            self.made.add(checkpoint.index)
        if self._lane.commits:
            self._known.add(checkpoint.index)
            self._parts.advance(self._known if self._lane.count == 1 else self._checkpoints.committed())
        self._spent("write", time.monotonic() - begun)
