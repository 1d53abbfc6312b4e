"""An attempt that dies anywhere: the next one completes what it left."""

import itertools
import os
import random
import signal
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embed_worker.attempt.writing import UNWRITTEN
from embed_worker.lake.store import Store
from tests.kits.attempt.jobs import (
    CountingEngine,
    leftovers,
    make_job,
    make_texts,
    manifest_of,
    prove,
    run,
    text_of,
    write_job,
)
from tests.kits.attempt.slow_worker import go, start
from tests.kits.attempt.stopped import committed_rows

pytestmark = pytest.mark.slow

TEXTS = [*make_texts(13), " "]
WRITES = ("create", "create_file", "delete")


class Killed(BaseException):
    """The machine is gone: nothing this attempt does reaches the lake any more."""


class Mortal:
    """Patches Store so that it dies at the n-th write, before or after the write takes place."""

    def __init__(self, patch: pytest.MonkeyPatch, at: int, after: bool) -> None:
        self.count, self.dead = 0, False
        lock = threading.Lock()
        for name in (*WRITES, "replace"):
            original = getattr(Store, name)

            def write(store: Store, *arguments: Any, _original: Any = original, _name: str = name) -> Any:
                with lock:
                    if self.dead:
                        raise Killed
                    if _name == "replace":  # heartbeats: not part of the protocol
                        return _original(store, *arguments)
                    self.count += 1
                    if self.count == at:
                        self.dead = True
                        if after:
                            _original(store, *arguments)
                        raise Killed
                    return _original(store, *arguments)

            patch.setattr(Store, name, write)


@pytest.mark.parametrize("after", [False, True])
def test_killed_at_any_write_the_next_attempt_completes(lake: str, tmp_path: Path, after: bool) -> None:
    """A crash at each write in turn; all that is left is what a dead machine leaves."""
    finished = False
    for at in itertools.count(1):
        job = make_job(f"{lake}-{at}", TEXTS)
        with pytest.MonkeyPatch.context() as patch:
            mortal = Mortal(patch, at, after)
            try:
                run(job)
                finished = not mortal.dead
            except BaseException as error:
                # A heartbeat's or the writer's thread may be hit first: what counts is that the lake is dead.
                assert mortal.dead, error
        assert run(job) is not finished or not finished
        folder = tmp_path / str(at)
        folder.mkdir()
        prove(job, TEXTS, folder, {133: "blank text"})
        assert leftovers(job) == []
        if finished:
            break
    assert at > 12, "the protocol has more writes than this"


def test_kill_9_at_random_moments(lake: str, tmp_path: Path) -> None:
    texts = make_texts(120)
    job = make_job(lake, texts, checkpoint_rows=4)
    url, store = write_job(job), Store(lake)
    seed = random.randrange(10**6)
    moments = random.Random(seed)
    kills = 3
    attempts = [start(url) for _ in range(kills)]  # they import and load at the same time, and wait
    for process in attempts:
        go(process)
        time.sleep(moments.uniform(0.0, 0.15))
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    committed = committed_rows(store, job)
    last = CountingEngine(job.spec)
    done = store.exists(job.shard.manifest_path)
    assert run(job, last) is not done, f"seed {seed}"
    prove(job, texts, tmp_path)
    assert leftovers(job) == []
    if not done:
        again = {text_of(ids) for ids in last.seen}
        assert not {texts[row] for row in committed} & again, "what was committed is not embedded again"
        assert len(manifest_of(job).attempts) <= kills + 1


def test_a_kill_loses_at_most_the_checkpoints_in_hand(lake: str, tmp_path: Path) -> None:
    """Every vector made before the kill is committed but for the unit in the engine and those being written."""
    texts = [f"text {i}" for i in range(60)]
    for at in (1, 25, 60):
        job = make_job(f"{lake}-{at}", texts, checkpoint_rows=4)
        with pytest.MonkeyPatch.context() as patch:
            mortal = Mortal(patch, 10**9, after=False)

            class Dying(CountingEngine):
                def hook(self, ids: tuple[int, ...], vector: np.ndarray) -> np.ndarray:
                    if len(self.seen) == at:  # noqa: B023
                        mortal.dead = True  # noqa: B023
                        raise Killed
                    return vector

            first = Dying(job.spec)
            with pytest.raises(BaseException):  # noqa: B017
                run(job, first)
        second = CountingEngine(job.spec)
        run(job, second)
        repeated = set(first.seen) & set(second.seen)
        assert len(repeated) <= 4 * (1 + UNWRITTEN)
        folder = tmp_path / str(at)
        folder.mkdir()
        prove(job, texts, folder)
