"""Work beside the driver: calls with a deadline, and a few threads that launch.

Daemon threads throughout: a call that never returns must not keep the process from ending.
"""

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Any, TypeVar

T = TypeVar("T")

MAX_STUCK = 16
"""Calls past their deadline that may hang at the same time; further ones are turned away, threads would pile up."""


class DeadlinePassed(Exception):
    """The call had not returned in time. Whether it took effect is unknown."""


class Deadlines:
    """Runs each call in a thread of its own and waits so long for it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stuck = 0  # calls past their deadline; those that are merely slow are bounded by who makes them

    def call(self, work: Callable[[], T], seconds: float) -> T:
        """Raises DeadlinePassed, or whatever the call raises."""
        if self._stuck >= MAX_STUCK:
            raise DeadlinePassed(f"{MAX_STUCK} earlier calls hang")
        future: Future[T] = Future()
        threading.Thread(target=_settle, args=(future, work), name="call-with-deadline", daemon=True).start()
        try:
            return future.result(seconds)
        except FutureTimeout as error:
            if future.done():  # the call itself raised a time-out
                raise
            self._count(1)
            future.add_done_callback(lambda _: self._count(-1))
            raise DeadlinePassed(f"no answer within {seconds:g} s") from error

    def _count(self, change: int) -> None:
        with self._lock:
            self._stuck += change


class Threads:
    """A fixed number of daemon threads that take work in order."""

    def __init__(self, count: int, name: str) -> None:
        self._count, self._name = count, name
        self._work: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []

    def submit(self, work: Callable[[], T]) -> "Future[T]":
        future: Future[T] = Future()
        self._work.put((future, work))
        if len(self._threads) < self._count:
            thread = threading.Thread(target=self._run, name=f"{self._name}-{len(self._threads)}", daemon=True)
            self._threads.append(thread)
            thread.start()
        return future

    def close(self) -> None:
        """Lets the threads end once what they have is done."""
        for _ in self._threads:
            self._work.put(None)

    def _run(self) -> None:
        while (item := self._work.get()) is not None:
            future, work = item
            if future.set_running_or_notify_cancel():
                _settle(future, work)


def _settle(future: "Future[T]", work: Callable[[], T]) -> None:
    try:
        result = work()
    except BaseException as error:
        future.set_exception(error)
    else:
        future.set_result(result)
