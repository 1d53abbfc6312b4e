"""The run's one progress line: counts by state, rows, and when it will be over."""

from collections import Counter
from collections.abc import Iterable

LINE_SECONDS = 15.0
"""A backend that is polled more often than this does not get a line a poll."""


class ProgressLine:
    """Told of every partition's rows; gives a line at most once a poll, and only when something changed."""

    def __init__(self, rows: int, began: float) -> None:
        self._rows, self._began = rows, began
        self._adopted = self._done = 0
        self._said, self._said_at = "", began - LINE_SECONDS

    def adopted(self, rows: int) -> None:
        self._adopted += rows

    def done(self, rows: int) -> None:
        self._done += rows

    def line(self, now: float, counts: Iterable[tuple[str, int]], partitions: int) -> str | None:
        """`61 of 100 committed, 34 running, 5 recovering; 3,600 of 5,900 rows, about 12 min to go`."""
        found = Counter(dict(counts))
        committed = found.pop("committed", 0)
        states = ", ".join(f"{n} {state}" for state, n in found.items() if n)
        text = f"{committed} of {partitions} committed" + (f", {states}" if states else "")
        if text == self._said or now - self._said_at < LINE_SECONDS:
            return None
        self._said, self._said_at = text, now
        return f"{text}; {self._adopted + self._done:,} of {self._rows:,} rows{self._to_go(now)}"

    def _to_go(self, now: float) -> str:
        left = self._rows - self._adopted - self._done
        if not self._done or left <= 0 or now <= self._began:
            return ""
        seconds = left * (now - self._began) / self._done
        return f", about {seconds / 60:,.0f} min to go" if seconds >= 60 else f", about {seconds:.0f} s to go"
