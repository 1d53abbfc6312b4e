"""Where an engine's time goes: stepping, or waiting for input."""

import os
import time
from pathlib import Path
from typing import Literal

import orjson

Kind = Literal["step", "wait"]

TRACE = "EMBED_TRACE"
"""Names a file: every span is kept and written there as JSON lines `{"t", "kind", "seconds"}`, for the bench."""


class EngineClock:
    """Adds up seconds by kind. What is neither step nor wait is the worker's own time between two steps."""

    def __init__(self) -> None:
        self.seconds: dict[Kind, float] = {"step": 0.0, "wait": 0.0}
        self._trace = os.environ.get(TRACE)
        self._spans: list[tuple[float, Kind, float]] = []

    def add(self, kind: Kind, begun: float) -> None:
        """`begun` is a reading of time.monotonic()."""
        spent = time.monotonic() - begun
        self.seconds[kind] += spent
        if self._trace:
            self._spans.append((begun, kind, spent))

    def flush(self) -> None:
        """Writes the trace, where one is wanted."""
        if not self._trace or not self._spans:
            return
        with Path(self._trace).open("ab") as file:
            for begun, kind, spent in self._spans:
                file.write(orjson.dumps({"t": begun, "kind": kind, "seconds": spent}) + b"\n")
        self._spans.clear()
