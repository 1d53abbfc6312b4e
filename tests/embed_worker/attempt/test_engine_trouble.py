"""An engine that breaks, ends early or is faster than the store."""

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embed_worker.engine.hash import HashEngine
from embed_worker.errors import Preempted
from embed_worker.lake import files
from embed_worker.lake.store import Store
from tests.kits.attempt.jobs import CountingEngine, make_job, prove, run
from tests.kits.attempt.stopped import TEXTS, StopAfter, committed_rows


def test_an_engine_that_breaks_is_worth_a_retry(lake: str, tmp_path: Path) -> None:
    class Breaking(CountingEngine):
        def hook(self, ids: tuple[int, ...], vector: np.ndarray) -> np.ndarray:
            if len(self.seen) == 14:
                raise RuntimeError("CUDA error: device-side assert")
            return vector

    job = make_job(lake, TEXTS)
    with pytest.raises(RuntimeError, match="CUDA"):
        run(job, Breaking(job.spec))
    assert committed_rows(Store(lake), job)
    assert run(job)
    prove(job, TEXTS, tmp_path)


def test_the_engine_is_closed_when_a_run_ends_early(lake: str) -> None:
    """A vLLM that keeps its requests would answer them into the next job."""
    closed: list[str] = []

    class Closing(StopAfter):
        def embed(self, source: Any) -> Any:
            try:
                yield from super().embed(source)
            finally:
                closed.append("closed")

    job = make_job(lake, TEXTS)
    stop = threading.Event()
    engine = Closing(job, stop, 5)
    try:
        run(job, engine, stop)
    except Preempted as error:
        assert closed == ["closed"], f"while {error!r} and its frames still live"
    else:
        raise AssertionError("not stopped")


def test_a_slow_store_holds_the_engine_back_and_loses_nothing(
    lake: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    describe = files.describe

    def slow(*arguments: Any) -> Any:
        threading.Event().wait(0.02)
        return describe(*arguments)

    monkeypatch.setattr("embed_worker.attempt.checkpoints.files.describe", slow)
    job = make_job(lake, TEXTS, checkpoint_rows=1)
    assert run(job, HashEngine(job.spec))
    prove(job, TEXTS, tmp_path)
