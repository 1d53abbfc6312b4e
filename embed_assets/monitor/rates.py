"""How fast each attempt is, from its own clock: rows come in checkpoints, so a moment says little."""

from collections import deque
from dataclasses import dataclass

from embed_worker.lake.heartbeats import Heartbeat

WINDOW_SECONDS = 180.0
MIN_STEPS = 4
"""Checkpoints that a window must have seen before it counts more than the whole attempt."""


@dataclass(frozen=True)
class Rate:
    """Per second."""

    rows: float
    tokens: float


@dataclass
class _Point:
    seconds: float
    rows: int
    tokens: int


class Rates:
    """Remembers the last minutes of each attempt."""

    def __init__(self) -> None:
        self._points: dict[str, deque[_Point]] = {}

    def observe(self, beat: Heartbeat) -> None:
        points = self._points.setdefault(beat.attempt, deque())
        rows, tokens = beat.rows_own, beat.tokens_own
        if beat.phase == "embedding" and (not points or beat.seconds > points[-1].seconds):
            points.append(_Point(beat.seconds, rows, tokens))
        while len(points) > 2 and points[-1].seconds - points[0].seconds > WINDOW_SECONDS:
            points.popleft()

    def forget(self, attempts: set[str]) -> None:
        """Keeps only these."""
        for gone in self._points.keys() - attempts:
            del self._points[gone]

    def of(self, beat: Heartbeat) -> Rate | None:
        """None before the attempt has committed its first checkpoint."""
        points = self._points.get(beat.attempt) or deque()
        steps = len({point.rows for point in points}) - 1
        if steps >= MIN_STEPS:
            first, last = points[0], points[-1]
            span = last.seconds - first.seconds
            return Rate((last.rows - first.rows) / span, (last.tokens - first.tokens) / span)
        rows, tokens = beat.rows_own, beat.tokens_own
        span = beat.phase_seconds if beat.phase == "embedding" and beat.phase_seconds else beat.seconds
        return Rate(rows / span, tokens / span) if rows and span else None
