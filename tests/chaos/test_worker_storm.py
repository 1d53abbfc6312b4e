"""The worker killed at each step of the commit protocol and at random moments, until its partition is committed."""

import itertools
import os
import random
from pathlib import Path

import pyarrow as pa
import pytest

from embed_worker import failpoints
from tests.chaos.attempt import KILLED
from tests.chaos.partition import TEXTS, Partition
from tests.worker.kit import make_job, run, shard_table

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("EMBED_CHAOS_KILLS", "8"))
"""At random failpoints and moments, beside one at each failpoint."""
KILLS_A_STORM = 4
LOCAL_ONLY = {"store.temporary", "store.linked", "store.replacing"}
REMOTE_ONLY = {"store.put"}

START = ["attempt.registered", "store.replacing", "attempt.fetched", "attempt.loaded"]
WORK = ["checkpoint.written", "store.temporary", "store.linked", "store.put", "checkpoint.data", "checkpoint.record"]
WORK += ["checkpoint.lost", "part.written", "part.published", "part.taken"]
END = ["attempt.embedded", "rejects.published", "manifest.ready"]
COMMIT = ["manifest.created", "attempt.committed"]
SWEEP = ["sweep.begun", "sweep.checkpoints"]
SPACE = "store.temporary:2"
"""Once all checkpoints are there: the file of the canary vectors, whose temporary lies outside of the shard."""
STORMS = [
    [*START[::2], *WORK[::2], END[0], SPACE, END[2], COMMIT[0], SWEEP[1]],
    [*START[1::2], *WORK[1::2], END[1], COMMIT[1], SWEEP[0]],
]
"""Every failpoint once, each while it can still be reached."""
STORES = ["lake", "s3_root"]
LONG_STORES = [*STORES, "seaweed_root"] if KILLS > 100 else STORES
SECONDS = {"lake": 0.4, "s3_root": 2.0, "seaweed_root": 2.0}
"""About what an attempt takes, to kill it at any moment of it."""


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> pa.Table:
    folder = tmp_path_factory.mktemp("undisturbed")
    job = make_job(str(folder / "lake"), TEXTS, checkpoint_rows=3)
    run(job)
    return shard_table(job, folder)


def applies(name: str, where: str) -> bool:
    return name.split(":", maxsplit=1)[0] not in (REMOTE_ONLY if where == "lake" else LOCAL_ONLY)


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
