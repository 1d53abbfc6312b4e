"""Looks at the lake from one thread, however many watch, and keeps the answers ready as bytes."""

import gzip
import hashlib
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from pydantic import BaseModel

from embed_assets.monitor.history import History, from_the_past, stretches
from embed_assets.monitor.lake import ReadOnlyLake
from embed_assets.monitor.models import History as HistoryAnswer
from embed_assets.monitor.models import Partition, Partitions, Progress, Sample, Worker, Workers
from embed_assets.monitor.rates import Rates
from embed_assets.monitor.scan import Found, Scanner
from embed_assets.monitor.states import alive
from embed_assets.monitor.totals import progress_of
from embed_assets.monitor.view import View, run_name, view_of

log = logging.getLogger(__name__)

IDLE_SECONDS = 60.0
"""Between looks, when nobody has asked for IDLE_AFTER seconds: the history goes on, the bucket rests."""
IDLE_AFTER = 300.0
SPEEDS_SECONDS = 900.0
ERROR_CHARACTERS = 300


@dataclass(frozen=True)
class Ready:
    """An answer in bytes, plain and compressed, with its tag."""

    body: bytes
    packed: bytes
    tag: str

    @classmethod
    def of(cls, answer: BaseModel) -> "Ready":
        body = answer.model_dump_json().encode()
        return cls(body, gzip.compress(body, 5), f'"{hashlib.sha256(body).hexdigest()[:20]}"')


class Watch:
    """What is known of the lake now. `look` may raise; the thread keeps the last good answers and says why."""

    def __init__(self, lake: ReadOnlyLake, interval: float = 5.0, clock: Callable[[], float] = time.time) -> None:
        self.lake, self.interval, self._clock = lake, interval, clock
        self._scanner, self._rates, self._history = Scanner(lake, clock), Rates(), History()
        self._lock = threading.Lock()
        self._revision = 0
        self._asked = clock()
        self._wake, self._stop = threading.Event(), threading.Event()
        self.progress = Progress(at=0.0, revision=0, lake=lake.root, scan_seconds=0.0, interval_seconds=interval)
        self._partitions: dict[str, list[Partition]] = {}
        self._workers: list[Worker] = []
        self._ready: dict[str, Ready] = {}

    def look(self) -> None:
        """One look at the lake."""
        found = self._scanner.look()
        beats = [seen for run in found.runs for list_ in run.beats.values() for seen in list_]
        for seen in beats:
            if alive(seen, found.at):
                self._rates.observe(seen.beat)
        self._rates.forget({seen.beat.attempt for seen in beats})
        view = view_of(found, self._rates, found.at)
        self._note(found, view)

    def _note(self, found: Found, view: View) -> None:
        current = [run for run in found.runs if run.current]
        if not self._history.samples:
            past = [one for run in current for one in stretches(run, found.at)]
            self._history.samples = from_the_past(past, found.at)
        speeds = self._history.last_rates(found.at - SPEEDS_SECONDS)
        progress = progress_of(
            found, view, speeds,
            revision=self._revision + 1, lake=self.lake.root, interval_seconds=self.interval,
        )  # fmt: skip
        self._history.add(
            Sample(
                at=found.at,
                rows_done=progress.rows_done,
                tokens_done=progress.tokens_done,
                rows_per_second=progress.rows_per_second or 0.0,
                tokens_per_second=progress.tokens_per_second or 0.0,
                workers=progress.workers,
            )
        )
        with self._lock:
            self._revision += 1
            self.progress = progress
            self._partitions = {run_name(key): partitions for key, partitions in view.partitions.items()}
            self._workers = [w for run in current for w in view.workers[run.key]]
            self._ready.clear()

    def answer(self, what: str, run: str | None = None) -> Ready:
        """`progress`, `partitions`, `workers` or `history`. KeyError where there is no such run."""
        self._note_asked()
        name = f"{what} {run or ''}"
        with self._lock:
            if name not in self._ready:
                self._ready[name] = Ready.of(self._build(what, run))
            return self._ready[name]

    def all_partitions(self) -> list[Partition]:
        """Of the current runs, for the metrics."""
        self._note_asked()
        with self._lock:
            return self._current()

    def _build(self, what: str, run: str | None) -> BaseModel:
        match what:
            case "progress":
                return self.progress
            case "partitions":
                chosen = self._current() if run is None else self._partitions[run]
                return Partitions(revision=self._revision, partitions=chosen)
            case "workers":
                return Workers(revision=self._revision, workers=self._workers)
            case _:
                return HistoryAnswer(revision=self._revision, samples=list(self._history.samples))

    def _current(self) -> list[Partition]:
        return [p for run in self.progress.runs if run.current for p in self._partitions[run.run]]

    def _note_asked(self) -> None:
        idle = self._clock() - self._asked > IDLE_AFTER
        self._asked = self._clock()
        if idle:
            self._wake.set()

    # -- the thread ------------------------------------------------------------------------------

    def start(self) -> None:
        threading.Thread(target=self._run, name="monitor", daemon=True).start()

    def stop(self) -> None:
        self._stop.set()
        self._wake.set()

    def _run(self) -> None:
        while not self._stop.is_set():
            begun = time.monotonic()
            try:
                self.look()
            except Exception as error:
                log.warning("the lake could not be read: %s: %s", type(error).__name__, error)
                self._fail(error)
            idle = self._clock() - self._asked > IDLE_AFTER
            pause = max(self.interval, IDLE_SECONDS if idle else 0.0, 2 * (time.monotonic() - begun))
            self._wake.wait(pause)
            self._wake.clear()

    def _fail(self, error: Exception) -> None:
        """A library's words may hold keys: only the kind of error is shown, the log has the rest."""
        with self._lock:
            self.progress = self.progress.model_copy(update={"error": type(error).__name__[:ERROR_CHARACTERS]})
            self._ready.clear()
