"""Attempts that are frozen, believed dead and replaced, and wake up after another has committed."""

import os
import random
import time
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import pytest

from embed_worker.exits import ExitCode
from tests.kits.attempt.jobs import prove, write_job
from tests.kits.chaos.kill_points import COMMIT, END, START, STORES, SWEEP, WORK, applies
from tests.kits.chaos.worker_storm import REJECTED, Partition, freeze, is_frozen, thaw

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("EMBED_CHAOS_KILLS", "8"))
ROUNDS = -(-KILLS // 12)
"""Of random freezes, for each store and number of attempts."""
SOME_STORES = STORES if KILLS > 100 else STORES[:1]
ORDER = [*START, *WORK, *END, COMMIT[0], SWEEP[0], COMMIT[1], SWEEP[1]]
GROUPS = 5
DONE = (ExitCode.DONE,)


def wake(partition: Partition, zombies: list[ForkServerProcess], chance: random.Random) -> None:
    """They change nothing of what is committed, and none complains."""
    before = partition.manifest()
    chance.shuffle(zombies)
    for zombie in zombies:
        thaw(zombie)
    for zombie in zombies:
        partition.end_of(zombie, DONE)
    assert partition.manifest() == before
    partition.prove(zombies=len(zombies))


@pytest.mark.parametrize("where", STORES)
@pytest.mark.parametrize("group", range(GROUPS))
def test_frozen_at_each_failpoint_and_replaced(
    request: pytest.FixtureRequest, tmp_path: Path, where: str, group: int
) -> None:
    """Three or four stand at failpoints of one partition at the same time while another commits."""
    zombies = []
    with Partition(request.getfixturevalue(where), tmp_path / "attempts") as partition:
        for name in ORDER[group::GROUPS]:
            if not applies(name, where):
                continue
            if name == "part.taken":
                partition.take_part_names()
            zombie = partition.start_and_freeze(name, rival=name == "checkpoint.lost")
            assert is_frozen(zombie), f"never got to {name}\n{partition.log()}"
            zombies.append(zombie)
        partition.end_of(partition.start(), DONE)
        wake(partition, zombies, random.Random(group))


@pytest.mark.timeout(600)
@pytest.mark.parametrize("where", SOME_STORES)
@pytest.mark.parametrize("count", [2, 5])
@pytest.mark.parametrize("seed", range(ROUNDS))
def test_frozen_at_random(request: pytest.FixtureRequest, tmp_path: Path, where: str, count: int, seed: int) -> None:
    """All work on one partition at once; any but one of them may stand still, some of them over the commit."""
    chance = random.Random(f"{where} {count} {seed}")
    with Partition(request.getfixturevalue(where), tmp_path / "attempts") as partition:
        attempts = [partition.start(pace=0.002) for _ in range(count)]
        frozen: list[ForkServerProcess] = []
        while not partition.committed:
            if frozen and (len(frozen) == count - 1 or chance.random() < 0.4):
                thaw(frozen.pop(chance.randrange(len(frozen))))
            else:
                frozen.append(chance.choice([one for one in attempts if one not in frozen]))
                freeze(frozen[-1])
            time.sleep(chance.uniform(0, 0.1))
            for attempt in attempts:
                assert attempt.exitcode in (None, *DONE), partition.log()
        wake(partition, attempts, chance)


# -- attempts of another cut or spec -------------------------------------------------------------------------


@pytest.mark.parametrize("where", SOME_STORES)
@pytest.mark.parametrize(
    "name", ["checkpoint.record", "part.written", "part.taken", "part.published", "manifest.ready"]
)
def test_a_zombie_with_other_checkpoints_cannot_harm_the_commit(
    request: pytest.FixtureRequest, tmp_path: Path, where: str, name: str
) -> None:
    """Its parts have other rows under the same names."""
    with Partition(request.getfixturevalue(where), tmp_path / "attempts") as partition:
        other = write_job(partition.job.model_copy(update={"checkpoint_rows": 4}))
        ready = partition.start_and_freeze("manifest.ready")
        zombie = partition.start_and_freeze(name, url=other)
        assert is_frozen(ready) and is_frozen(zombie)
        thaw(ready)
        partition.end_of(ready, DONE)
        wake(partition, [zombie], random.Random(0))


@pytest.mark.parametrize("where", SOME_STORES)
def test_an_attempt_with_another_spec_has_a_folder_of_its_own(
    request: pytest.FixtureRequest, tmp_path: Path, where: str
) -> None:
    root = request.getfixturevalue(where)
    with Partition(root, tmp_path / "a") as one, Partition(f"{root}-2", tmp_path / "b", max_tokens=16) as other:
        twin = other.job.model_copy(update={"lake": one.job.lake, "input": one.job.input})
        url = write_job(twin)
        both = [one.start(), other.start(url=url)]
        for process in both:
            one.end_of(process, DONE)
        assert twin.shard.folder != one.job.shard.folder
        (tmp_path / "other").mkdir()
        prove(twin, one.texts, tmp_path / "other", REJECTED)
        prove(one.job, one.texts, tmp_path, REJECTED)
