"""A small file in the lake that says, every few seconds, how far an attempt is."""

import logging
import threading
import time
from typing import Any

from embed_worker.errors import NotBegun, Preempted, WorkerError, exit_code_of
from embed_worker.exits import ExitCode
from embed_worker.lake import layout
from embed_worker.lake.errors import LakeError, StoreUnavailable
from embed_worker.lake.job import EmbedJob
from embed_worker.lake.manifests import now
from embed_worker.lake.store import Store, to_json

log = logging.getLogger(__name__)

ERROR_CHARACTERS = 300


class Heartbeat:
    """Writes the attempt's state from a thread of its own. A lake that refuses it does not stop the work."""

    def __init__(self, store: Store, job: EmbedJob, attempt: str, about: dict[str, Any]) -> None:
        self._store = store
        self._path = layout.heartbeat_file(job.shard.key, attempt)
        self._interval = job.heartbeat_seconds
        self._started = self._phase_started = time.monotonic()
        self._state: dict[str, Any] = {
            "format": layout.FORMAT,
            "pipeline": job.pipeline,
            "partition": job.shard.key,
            "dataset": job.shard.dataset,
            "spec_id": job.shard.spec_id,
            "partitioning": job.shard.partitioning.name,
            "attempt": attempt,
            "rows": job.input.rows,
            "rows_done": 0,
            "tokens_done": 0,
            "rows_own": 0,
            "tokens_own": 0,
            "checkpoint_rows": job.checkpoint_rows,
            "every_seconds": job.heartbeat_seconds,
            "phase": "starting",
            **about,
        }
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._complained = False
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def __enter__(self) -> "Heartbeat":
        self._beat()
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, *_: object) -> None:
        self._done.set()
        self._thread.join()
        if error is not None:
            self.update(phase="stopped", **_ending(error))
        self._beat()

    def update(self, **state: Any) -> None:
        with self._lock:
            if state.get("phase", self._state["phase"]) != self._state["phase"]:
                self._phase_started = time.monotonic()
            self._state.update(state)

    def add(self, *, rows: int, tokens: int) -> None:
        """Counts what this attempt has committed or found committed. Only what it made itself has tokens of its own."""
        with self._lock:
            self._state["rows_done"] += rows
            self._state["tokens_done"] += tokens
            if tokens and self._state["phase"] != "starting":  # before the model is there, it only finds
                self._state["rows_own"] += rows
                self._state["tokens_own"] += tokens

    def _run(self) -> None:
        while not self._done.wait(self._interval):
            self._beat()

    def _beat(self) -> None:
        with self._lock:
            at = time.monotonic()
            state = {
                **self._state,
                "at": now(),
                "seconds": round(at - self._started, 1),
                "phase_seconds": round(at - self._phase_started, 1),
            }
        try:
            self._store.replace(self._path, to_json(state))
        except Exception as error:
            if not self._complained:
                log.warning("heartbeat not written, going on without it: %s", error)
            self._complained = True


def _ending(error: BaseException) -> dict[str, Any]:
    """How the attempt ended. Only our own errors are quoted: a library's may hold a key or a text."""
    if isinstance(error, Preempted):
        return {"ending": "preempted"}
    refused = isinstance(error, Exception) and exit_code_of(error) is ExitCode.BAD_JOB
    ending = {"ending": "refused" if refused else "failed", "error": type(error).__name__}
    if isinstance(error, WorkerError | LakeError) and not isinstance(error, StoreUnavailable | NotBegun):
        ending["error"] = str(error)[:ERROR_CHARACTERS]
    return ending
