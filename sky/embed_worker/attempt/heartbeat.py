"""The thread that says in the lake, every few seconds, how far an attempt is."""

import logging
import threading
import time
from datetime import UTC, datetime
from typing import Any

from embed_worker.errors import NotBegun, Preempted, WorkerError, exit_code_of
from embed_worker.exits import ExitCode
from embed_worker.lake.attempts import Attempt
from embed_worker.lake.errors import LakeError, StoreUnavailable
from embed_worker.lake.heartbeats import Heartbeat
from embed_worker.lake.job import EmbedJob
from embed_worker.lake.store import Store, to_json

log = logging.getLogger(__name__)


class Pulse:
    """Writes the attempt's heartbeat. A lake that refuses it does not stop the work."""

    def __init__(self, store: Store, job: EmbedJob, attempt: Attempt) -> None:
        self._store = store
        self._interval = job.heartbeat_seconds
        self._started = self._phase_started = time.monotonic()
        self._beat = Heartbeat(
            pipeline=job.pipeline,
            shard=job.shard,
            **attempt.model_dump(),
            rows=job.input.rows,
            checkpoint_rows=job.checkpoint_rows,
            every_seconds=job.heartbeat_seconds,
            phase="starting",
        )
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._complained = False
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def __enter__(self) -> "Pulse":
        self._write()
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, *_: object) -> None:
        self._done.set()
        self._thread.join()
        if error is not None:
            self.update(phase="stopped", **_ending(error))
        self._write()

    def update(self, **changes: Any) -> None:
        """Sets fields of the heartbeat."""
        with self._lock:
            if changes.get("phase", self._beat.phase) != self._beat.phase:
                self._phase_started = time.monotonic()
            self._beat = Heartbeat.model_validate(self._beat.model_dump() | changes)

    def add(self, *, rows: int, tokens: int) -> None:
        """Counts what this attempt has committed or found committed. Only what it made itself has tokens of its own."""
        with self._lock:
            beat = self._beat
            made = tokens and beat.phase != "starting"  # before the model is there, it only finds
            self._beat = beat.model_copy(
                update={
                    "rows_done": beat.rows_done + rows,
                    "tokens_done": beat.tokens_done + tokens,
                    "rows_own": beat.rows_own + (rows if made else 0),
                    "tokens_own": beat.tokens_own + (tokens if made else 0),
                }
            )

    def _run(self) -> None:
        while not self._done.wait(self._interval):
            self._write()

    def _write(self) -> None:
        with self._lock:
            at = time.monotonic()
            beat = self._beat.model_copy(
                update={
                    "at": datetime.now(UTC).replace(microsecond=0),
                    "seconds": round(at - self._started, 1),
                    "phase_seconds": round(at - self._phase_started, 1),
                }
            )
        try:
            self._store.replace(beat.path, to_json(beat.model_dump(mode="json", exclude_none=True)))
        except Exception as error:
            if not self._complained:
                log.warning("heartbeat not written, going on without it: %s", error)
            self._complained = True


def _ending(error: BaseException) -> dict[str, str]:
    """How the attempt ended. Only our own errors are quoted: a library's may hold a key or a text."""
    if isinstance(error, Preempted):
        return {"ending": "preempted"}
    ours = isinstance(error, WorkerError | LakeError) and not isinstance(error, StoreUnavailable | NotBegun)
    bad_job = isinstance(error, Exception) and exit_code_of(error) is ExitCode.BAD_JOB
    return {"ending": "bad_job" if bad_job else "failed", "error": str(error) if ours else type(error).__name__}
