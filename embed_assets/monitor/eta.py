"""When a run will be done: its partitions dealt out to its workers, as they are now."""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

MIN_SPREAD, MAX_SPREAD = 0.05, 0.5
UNSURE = 0.3
"""Spread of the speed while it was watched too short a time to know."""
MIN_SAMPLES = 12


@dataclass(frozen=True)
class Eta:
    """Seconds from now: likely, and the range it should fall into."""

    likely: float
    low: float
    high: float


def eta(running: Sequence[tuple[float, float]], waiting: Sequence[float], spread: float) -> Eta | None:
    """None while no worker has a rate.

    `running`: (rows left, rows/s) of each partition in hand; `waiting`: rows left of each that nobody has in hand.
    `spread`: how far the speed swings, as a share of it.
    """
    rates = [rate for _, rate in running if rate > 0]
    if not rates:
        return None if waiting or running else Eta(0.0, 0.0, 0.0)
    typical = median(rates)
    known = [(left, rate if rate > 0 else typical) for left, rate in running]
    likely = _makespan(known, waiting, typical)
    return Eta(likely, likely / (1 + spread), likely / (1 - spread))


def _makespan(running: list[tuple[float, float]], waiting: Sequence[float], typical: float) -> float:
    """A worker that is done takes the longest partition that waits, at the typical speed."""
    free = [left / rate for left, rate in running]
    heapq.heapify(free)
    for left in sorted(waiting, reverse=True):
        heapq.heapreplace(free, free[0] + left / typical)
    return max(free)


def spread_of(speeds: Sequence[float]) -> float:
    """Of total speeds over the last minutes: half the distance between the 10th and the 90th percentile, relative."""
    known = sorted(speed for speed in speeds if speed > 0)
    if len(known) < MIN_SAMPLES:
        return UNSURE
    low, middle, high = (known[int(share * (len(known) - 1))] for share in (0.1, 0.5, 0.9))
    return min(MAX_SPREAD, max(MIN_SPREAD, (high - low) / 2 / middle))
