"""How far the reading of a source is, in a line each half minute."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from embed_worker.steps.raw import Progress

EVERY_SECONDS = 30.0


Watcher = Callable[[str, Progress], None]
"""Called with a dataset's name and how far its source is read."""
_watchers: list[Watcher] = []


@contextmanager
def watched(watcher: Watcher) -> Iterator[None]:
    """Shows a watcher in this process all that is read while the body runs."""
    _watchers.append(watcher)
    try:
        yield
    finally:
        _watchers.remove(watcher)


class Pace:
    """Takes what an ingest tells and says a line of it, not too often."""

    def __init__(self, dataset: str, say: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._dataset, self._say, self._clock = dataset, say, clock
        self._begun = self._said = clock()

    def __call__(self, progress: Progress) -> None:
        for watcher in list(_watchers):
            watcher(self._dataset, progress)
        now = self._clock()
        if now - self._said >= EVERY_SECONDS:
            self._say(f"{self._dataset}: {line(progress, now - self._begun)}")
            self._said = now


def line(progress: Progress, seconds: float) -> str:
    """Percent, MB/s and the time left."""
    rate = progress.read / max(seconds, 1e-9)
    left = (progress.total_bytes - progress.bytes) / max(rate, 1e-9)
    share = progress.bytes / max(progress.total_bytes, 1)
    return (
        f"{share:.0%} of {progress.total_bytes / 1e6:,.0f} MB read at {rate / 1e6:,.1f} MB/s, {progress.rows:,} rows, "
        f"about {left / 60:,.0f} min left"
    )
