"""Reading and tokenising in a thread of their own, ahead of the engine by a bounded number of checkpoints."""

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterator

import pyarrow as pa

from embed_worker.attempt.open_checkpoint import OpenCheckpoint
from embed_worker.engine.base import Request

AHEAD = 3
"""Tokenised checkpoints that may wait for the engine; bounds the memory."""


Make = Callable[[int, pa.Table], OpenCheckpoint | None]


class Feeder:
    """The engine's request source over the checkpoints still to do.

    `make` turns (index, rows) into a OpenCheckpoint, or None where the checkpoint is committed already.
    `begin` is called on the engine's thread when a checkpoint's first sequence is about to be taken; it may be set
    after the start, so that reading and tokenising need not wait for the engine.
    """

    def __init__(
        self,
        tables: Iterator[tuple[int, pa.Table]],
        make: Make,
        begin: Callable[[OpenCheckpoint], None] = lambda checkpoint: None,
        ahead: int = AHEAD,
    ) -> None:
        self.begin = begin
        self._queue: queue.Queue[OpenCheckpoint | BaseException | None] = queue.Queue()
        self._room = threading.Semaphore(ahead)  # taken before a checkpoint is looked for: another may want it
        self._stopped = threading.Event()
        self._ended = False
        self._first: deque[Request] = deque()
        self._current: tuple[OpenCheckpoint, int] | None = None
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
                checkpoint, position = self._current
                if position < len(checkpoint.todo):
                    self._current = (checkpoint, position + 1)
                    sequence = checkpoint.todo[position]
                    return (checkpoint.index, sequence), checkpoint.sequences[sequence]
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
                self._room.release()
                self.begin(item)
                self._current = (item, 0)
        return None

    def stop(self) -> None:
        """Ends the thread; what it has prepared is dropped."""
        self._stopped.set()
        self._room.release()
        self._thread.join()

    def _run(self, tables: Iterator[tuple[int, pa.Table]], make: Make) -> None:
        try:
            for checkpoint in self._made(tables, make):
                self._queue.put(checkpoint)
            self._queue.put(None)
        except BaseException as error:
            self._queue.put(error)

    def _made(self, tables: Iterator[tuple[int, pa.Table]], make: Make) -> Iterator[OpenCheckpoint]:
        while True:
            self._room.acquire()
            checkpoint = None
            while checkpoint is None:
                if self._stopped.is_set() or (found := next(tables, None)) is None:
                    return
                checkpoint = make(*found)
            yield checkpoint
