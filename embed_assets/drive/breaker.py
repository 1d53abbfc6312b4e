"""Stops the launching where the first jobs of a run end alike: what is wrong with them is wrong with the next, too."""

from collections import Counter

FIRST, ALIKE = 10, 8
"""So many of the first ends. Fewer would stop a run over a few bad machines."""


class Breaker:
    """Hears of every job's end; `why` says why none is launched any more."""

    def __init__(self) -> None:
        self._ends: list[str] = []
        self.why = ""

    def ended(self, kind: str = "") -> None:
        """`kind`: what the backend says of a bad end; empty for a commit, and where it does not say."""
        if len(self._ends) >= FIRST:
            return
        self._ends.append(kind)
        for shared, count in Counter(filter(None, self._ends)).items():
            if count >= ALIKE:
                self.why = f"{count} of the first {len(self._ends)} jobs of this run ended alike: {shared}"
