"""Attempts that are stopped on their way, and what they have committed."""

import threading

import numpy as np
import pytest

from embed_worker.errors import Preempted
from embed_worker.lake.job import EmbedJob
from embed_worker.lake.store import Store
from tests.kits.attempt.jobs import CountingEngine, make_job, make_texts, run

TEXTS = make_texts(22)


class StopAfter(CountingEngine):
    """Sets the stop event once it has embedded so many sequences."""

    def __init__(self, job: EmbedJob, stop: threading.Event, after: int) -> None:
        super().__init__(job.spec)
        self.stop, self.after = stop, after

    def hook(self, ids: tuple[int, ...], vector: np.ndarray) -> np.ndarray:
        if len(self.seen) == self.after:
            self.stop.set()
        return vector


def committed_rows(store: Store, job: EmbedJob) -> set[int]:
    """Numbers of the rows whose checkpoints are there."""
    names = store.list(f"{job.shard.folder}/checkpoints/rows-{job.checkpoint_rows:07d}")
    indices = [int(name[:6]) for name in names if name.endswith(".json") and not name.startswith(".")]
    size = job.checkpoint_rows
    return {row for i in indices for row in range(i * size, min((i + 1) * size, job.input.rows))}


def preempted(lake: str, after: int = 19) -> EmbedJob:
    job = make_job(lake, TEXTS)
    stop = threading.Event()
    with pytest.raises(Preempted):
        run(job, StopAfter(job, stop, after), stop)
    return job
