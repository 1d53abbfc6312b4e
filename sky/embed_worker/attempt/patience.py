"""Waiting for a lake or a hub that is away. A machine that waits ten minutes costs what a new one's start costs."""

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_delay, wait_random_exponential
from tenacity.nap import sleep_using_event
from tenacity.stop import stop_when_event_set

from embed_worker.errors import ModelAway
from embed_worker.lake.errors import StoreAway
from embed_worker.lake.store import Store

T = TypeVar("T")

SECONDS = "EMBED_PATIENCE_SECONDS"
"""How long a worker on a node waits for what is away, each time."""
DEFAULT_SECONDS = 1200.0
LONGEST_PAUSE = 60.0
log = logging.getLogger(__name__)


class Patience:
    """Does work again as long as the lake or the hub is away. Without seconds it does not wait at all."""

    def __init__(self, seconds: float = 0.0, stop: threading.Event | None = None) -> None:
        self.seconds, self._stop = seconds, stop or threading.Event()

    def until_there(self, work: Callable[[], T]) -> T:
        """Raises the last StoreAway or ModelAway when the time is up, or when the worker is told to stop."""
        if not self.seconds:
            return work()
        return Retrying(
            retry=retry_if_exception_type((StoreAway, ModelAway)),
            stop=stop_after_delay(self.seconds) | stop_when_event_set(self._stop),
            wait=wait_random_exponential(multiplier=2, max=LONGEST_PAUSE),
            sleep=sleep_using_event(self._stop),
            before_sleep=self._tell,
            reraise=True,
        )(work)

    def _tell(self, state: RetryCallState) -> None:
        assert state.outcome is not None and state.next_action is not None
        if state.attempt_number == 1:
            log.warning("%s; asking again for up to %.0f s", state.outcome.exception(), self.seconds)


NONE = Patience()


class PatientStore(Store):
    """A lake that is waited for.

    A create-only put that is sent again after its answer got lost may find its own object: that is False, "taken",
    and every caller looks whose it is.
    """

    def __init__(self, root: str, patience: Patience) -> None:
        super().__init__(root)
        self._patience = patience

    def again(self, work: Callable[[], T]) -> T:
        return self._patience.until_there(work)

    def exists(self, path: str) -> bool:
        return self.again(lambda: super(PatientStore, self).exists(path))

    def read(self, path: str) -> bytes:
        return self.again(lambda: super(PatientStore, self).read(path))

    def read_range(self, path: str, offset: int, length: int) -> bytes:
        return self.again(lambda: super(PatientStore, self).read_range(path, offset, length))

    def list(self, path: str) -> list[str]:
        return self.again(lambda: super(PatientStore, self).list(path))

    def create(self, path: str, data: bytes) -> bool:
        return self.again(lambda: super(PatientStore, self).create(path, data))

    def create_file(self, path: str, source: Path) -> bool:
        return self.again(lambda: super(PatientStore, self).create_file(path, source))

    def delete(self, path: str) -> None:
        self.again(lambda: super(PatientStore, self).delete(path))
