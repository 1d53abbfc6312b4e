"""Several attempts at once on one shard."""

import random
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embed_worker.attempt.checkpoints import Checkpoints
from embed_worker.lake.store import Store
from tests.kits.attempt.jobs import CountingEngine, leftovers, make_job, make_texts, manifest_of, prove, run, write_job
from tests.kits.attempt.slow_worker import go, start

pytestmark = pytest.mark.slow

TEXTS = [*make_texts(13), " "]


class Ambling(CountingEngine):
    """Waits a little now and then, so that twins interleave."""

    def hook(self, ids: tuple[int, ...], vector: np.ndarray) -> np.ndarray:
        time.sleep(random.choice((0, 0, 0.001, 0.003)))
        return vector


@pytest.mark.parametrize(("where", "count"), [("lake", 2), ("lake", 5), ("s3_root", 3)])
def test_twins_make_one_shard(request: pytest.FixtureRequest, tmp_path: Path, where: str, count: int) -> None:
    root = request.getfixturevalue(where)
    for round_ in range(2 if where == "lake" else 1):
        texts = [*make_texts(41 if where == "lake" else 8), " "]
        job = make_job(f"{root}/{round_}", texts, checkpoint_rows=3)
        won, errors = race_of(job, count)
        assert errors == []
        assert won.count(True) == 1
        folder = tmp_path / f"{count}-{round_}"
        folder.mkdir()
        prove(job, texts, folder, {10 * len(texts) - 7: "blank text"})
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
