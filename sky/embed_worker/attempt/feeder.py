"""Reading and tokenising in a thread of their own, ahead of the engine by a bounded number of checkpoints."""

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterator

import pyarrow as pa

from embed_worker.attempt.units import Unit
from embed_worker.engine.base import Request

AHEAD = 2
"""Tokenised checkpoints that may wait for the engine; bounds the memory."""


class Feeder:
    """The engine's request source over the checkpoints still to do.

    `make` turns (index, rows) into a Unit, or None where the checkpoint is committed already.
    `begin` is called on the engine's thread when a unit's first sequence is about to be taken; it may be set
    after the start, so that reading and tokenising need not wait for the engine.
    """

    def __init__(
        self,
        tables: Iterator[tuple[int, pa.Table]],
        make: Callable[[int, pa.Table], Unit | None],
        begin: Callable[[Unit], None] = lambda unit: None,
    ) -> None:
        self.begin = begin
        self._queue: queue.Queue[Unit | BaseException | None] = queue.Queue(AHEAD)
        self._stopped = threading.Event()
        self._ended = False
        self._first: deque[Request] = deque()
        self._current: tuple[Unit, int] | None = None
        self._thread = threading.Thread(target=self._run, args=(tables, make), name="feeder", daemon=True)
        self._thread.start()

    @property
    def exhausted(self) -> bool:
        return self._ended and not self._first

    def go_first(self, requests: list[Request]) -> None:
        """Requests that are taken before all others, also after the last of them. On the engine's thread."""
        self._first.extend(requests)

    def take(self, block: bool) -> Request | None:
        """See RequestSource. Raises here what went wrong in the feeder's thread."""
        while not self.exhausted:
            if self._first:
                return self._first.popleft()
            if self._current is not None:
                unit, position = self._current
                if position < len(unit.todo):
                    self._current = (unit, position + 1)
                    sequence = unit.todo[position]
                    return (unit.index, sequence), unit.sequences[sequence]
                self._current = None
            try:
                item = self._queue.get(block=block)
            except queue.Empty:
                return None
            if isinstance(item, BaseException):
                self._ended = True
                raise item
            if item is None:
                self._ended = True
            else:
                self.begin(item)
                self._current = (item, 0)
        return None

    def stop(self) -> None:
        """Ends the thread; what it has prepared is dropped."""
        self._stopped.set()
        while self._thread.is_alive():
            try:
                self._queue.get(timeout=0.05)
            except queue.Empty:
                continue

    def _run(self, tables: Iterator[tuple[int, pa.Table]], make: Callable[[int, pa.Table], Unit | None]) -> None:
        try:
            for index, table in tables:
                if self._stopped.is_set():
                    return
                if (unit := make(index, table)) is not None:
                    self._queue.put(unit)
            self._queue.put(None)
        except BaseException as error:
            self._queue.put(error)
