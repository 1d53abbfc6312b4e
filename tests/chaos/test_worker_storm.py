"""The worker killed at each step of the commit protocol and at random moments, until its partition is committed."""

import itertools
import random
from pathlib import Path

import pyarrow as pa
import pytest

from embed_worker.lake import failpoints
from tests.kits.attempt.jobs import make_job, run, shard_table
from tests.kits.chaos.kill_points import KILLS, LONG_STORES, SPACE, STORES, STORMS, applies
from tests.kits.chaos.worker_process import KILLED
from tests.kits.chaos.worker_storm import TEXTS, Partition

pytestmark = pytest.mark.slow

KILLS_A_STORM = 4

SECONDS = {"lake": 0.4, "s3_root": 2.0, "seaweed_root": 2.0}
"""About what an attempt takes, to kill it at any moment of it."""


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> pa.Table:
    folder = tmp_path_factory.mktemp("undisturbed")
    job = make_job(str(folder / "lake"), TEXTS, checkpoint_rows=3)
    run(job)
    return shard_table(job, folder)


def test_the_storms_know_every_failpoint() -> None:
    assert {name for storm in STORMS for name in storm} - {SPACE} == set(failpoints.WORKER)


@pytest.mark.parametrize("where", STORES)
@pytest.mark.parametrize("storm", range(len(STORMS)))
def test_killed_at_each_failpoint(
    request: pytest.FixtureRequest, tmp_path: Path, undisturbed: pa.Table, where: str, storm: int
) -> None:
    with Partition(request.getfixturevalue(where), tmp_path / "attempts") as partition:
        for name in STORMS[storm]:
            if not applies(name, where):
                continue
            if name == "part.taken":
                partition.take_part_names()
            assert partition.run(name, rival=name == "checkpoint.lost") == KILLED, f"never got to {name}"
        partition.prove(undisturbed)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("where", LONG_STORES)
@pytest.mark.parametrize("seed", range(-(-KILLS // KILLS_A_STORM // len(LONG_STORES))))
def test_killed_at_random(
    request: pytest.FixtureRequest, tmp_path: Path, undisturbed: pa.Table, where: str, seed: int
) -> None:
    """At failpoints and moments, with foreign files in the way now and then; partition by partition, as one commits."""
    chance = random.Random(f"{where} {seed}")
    names = [name for name in failpoints.WORKER if applies(name, where)]
    root = request.getfixturevalue(where)
    kills = 0
    for number in itertools.count():
        with Partition(f"{root}/{number}", tmp_path / f"attempts-{number}") as partition:
            if chance.random() < 0.3:
                partition.take_part_names()
            while kills + partition.kills < KILLS_A_STORM and not partition.committed:
                pace = chance.choice((0.0, 0.003))
                if chance.random() < 0.5:
                    armed = f"{chance.choice(names)}:{chance.choice((1, 1, 2, 3, 5, 8))}"
                    partition.run(armed, rival=chance.random() < 0.1, pace=pace)
                else:
                    partition.run(kill_after=chance.uniform(0, SECONDS[where]), pace=pace)
            partition.prove(undisturbed)
            kills += partition.kills
        if kills >= KILLS_A_STORM:
            break
