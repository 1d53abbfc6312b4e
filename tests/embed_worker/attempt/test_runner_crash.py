"""Exactly once: killed at every instant of the protocol, killed for real, and twins on one partition."""

import itertools
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embed_worker.attempt.checkpoints import Checkpoints
from embed_worker.attempt.runner import UNWRITTEN
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

pytestmark = pytest.mark.slow

TEXTS = [*make_texts(13), None]
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
        prove(job, TEXTS, folder, {133: "null text"})
        assert leftovers(job) == []
        if finished:
            break
    assert at > 12, "the protocol has more writes than this"


SLOW_WORKER = """
import sys, threading, time
import numpy as np
from embed_worker.engine import loading as models
from embed_worker.engine.hash import HashEngine

class Slow(HashEngine):
    def embed(self, source):
        for key, vector in super().embed(source):
            time.sleep(0.002)
            yield key, vector

models.HashEngine = Slow
from embed_worker.lake.job import load_job
from embed_worker.attempt.runner import run_job
job = load_job(sys.argv[1])
model = models.load_model(job.spec)
print("ready", flush=True)
sys.stdin.readline()
run_job(job, lambda: model, threading.Event())
"""


def start(url: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", SLOW_WORKER, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def go(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None and process.stdin is not None
    assert process.stdout.readline() == "ready\n"
    process.stdin.write("go\n")
    process.stdin.flush()


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


def committed_rows(store: Store, job: Any) -> set[int]:
    names = store.list(f"{job.shard.folder}/checkpoints/rows-{job.checkpoint_rows:07d}")
    indices = [int(name[:6]) for name in names if name.endswith(".json") and not name.startswith(".")]
    size = job.checkpoint_rows
    return {row for i in indices for row in range(i * size, min((i + 1) * size, job.input.rows))}


# -- twins ---------------------------------------------------------------------------------------------------


class Ambling(CountingEngine):
    """Waits a little now and then, so that twins interleave."""

    def hook(self, ids: tuple[int, ...], vector: np.ndarray) -> np.ndarray:
        time.sleep(random.choice((0, 0, 0.001, 0.003)))
        return vector


@pytest.mark.parametrize(("where", "count"), [("lake", 2), ("lake", 5), ("s3_root", 3)])
def test_twins_make_one_shard(request: pytest.FixtureRequest, tmp_path: Path, where: str, count: int) -> None:
    root = request.getfixturevalue(where)
    for round_ in range(2 if where == "lake" else 1):
        texts = [*make_texts(41 if where == "lake" else 8), None]
        job = make_job(f"{root}/{round_}", texts, checkpoint_rows=3)
        won, errors = race_of(job, count)
        assert errors == []
        assert won.count(True) == 1
        folder = tmp_path / f"{count}-{round_}"
        folder.mkdir()
        prove(job, texts, folder, {10 * len(texts) - 7: "null text"})
        assert leftovers(job) == []


def race_of(job: Any, count: int) -> tuple[list[bool], list[BaseException]]:
    barrier = threading.Barrier(count)
    won: list[bool] = []
    errors: list[BaseException] = []

    def one() -> None:
        engine = Ambling(job.spec)
        barrier.wait()
        try:
            won.append(run(job, engine))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=one) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return won, errors


def test_twins_in_processes_of_their_own(lake: str, tmp_path: Path) -> None:
    texts = make_texts(80)
    job = make_job(lake, texts, checkpoint_rows=3)
    url = write_job(job)
    twins = [start(url) for _ in range(2)]
    for twin in twins:
        go(twin)
    for twin in twins:
        twin.communicate(timeout=120)
    assert [twin.returncode for twin in twins] == [0, 0]
    prove(job, texts, tmp_path)
    assert leftovers(job) == []
    assert len(manifest_of(job).attempts) in (1, 2)


def test_twins_share_the_work(lake: str) -> None:
    """The loser of a checkpoint goes on with the next one that nobody has, instead of making them all."""
    texts = [f"text {i}" for i in range(40)]
    job = make_job(lake, texts, checkpoint_rows=4)
    ahead, behind = threading.Event(), threading.Event()

    class First(CountingEngine):
        def hook(self, ids: tuple[int, ...], vector: np.ndarray) -> np.ndarray:
            if len(self.seen) == 6:
                behind.set()
                assert ahead.wait(60)
            return vector

    class Second(CountingEngine):
        def hook(self, ids: tuple[int, ...], vector: np.ndarray) -> np.ndarray:
            if len(self.seen) == 30:
                deadline = time.monotonic() + 60
                while len(Checkpoints(Store(lake), job).committed()) < 7:  # written in a thread of its own
                    assert time.monotonic() < deadline
                    time.sleep(0.01)
                ahead.set()
            return vector

    first, second = First(job.spec), Second(job.spec)
    thread = threading.Thread(target=lambda: run(job, first))
    thread.start()
    assert behind.wait(60)
    run(job, second)
    thread.join()
    # What the first had tokenised ahead of itself it may do again; the rest it finds committed.
    assert len(first.seen) < 40 and len(first.seen) + len(second.seen) < 80


def test_a_zombie_stops_when_its_replacement_has_committed(lake: str, tmp_path: Path) -> None:
    """Its checkpoints are swept: without a look at the manifest it would embed the whole partition again."""
    texts = [f"text {i}" for i in range(200)]
    job = make_job(lake, texts, checkpoint_rows=4)
    asleep, awake = threading.Event(), threading.Event()

    class Zombie(CountingEngine):
        def hook(self, ids: tuple[int, ...], vector: np.ndarray) -> np.ndarray:
            if len(self.seen) == 10:
                asleep.set()
                assert awake.wait(60)
            return vector

    zombie = Zombie(job.spec)
    outcome: list[bool] = []
    thread = threading.Thread(target=lambda: outcome.append(run(job, zombie)))
    thread.start()
    assert asleep.wait(60)
    assert run(job) is True
    awake.set()
    thread.join()
    assert outcome == [False]
    assert len(zombie.seen) < 60
    prove(job, texts, tmp_path)
    assert leftovers(job) == []
