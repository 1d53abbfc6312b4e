"""Ingest and cut killed at each of their steps and at random moments, until the strides are committed."""

import itertools
import random
from pathlib import Path
from typing import Any

import pytest

from embed_worker.lake import failpoints
from tests.kits.chaos.kill_points import KILLS, LONG_STORES, STEPS, STEPS_STORM, STORES, applies
from tests.kits.chaos.steps_storm import Dataset
from tests.kits.chaos.worker_process import KILLED

pytestmark = pytest.mark.slow

KILLS_A_STORM = 4


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, list[Any]]:
    folder = tmp_path_factory.mktemp("undisturbed")
    with Dataset(str(folder / "lake"), folder) as dataset:
        return dataset.prove()


def test_the_storm_knows_every_step() -> None:
    steps = [name for name in failpoints.PLATFORM if name.startswith(("raw.", "slice.", "strides."))]
    assert {name.partition(":")[0] for name in STEPS_STORM} >= set(steps) == set(STEPS)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("where", STORES)
def test_killed_at_each_step(
    request: pytest.FixtureRequest, tmp_path: Path, undisturbed: tuple[str, list[Any]], where: str
) -> None:
    with Dataset(request.getfixturevalue(where), tmp_path) as dataset:
        for name in STEPS_STORM:
            if applies(name, where):
                assert dataset.run(name) == KILLED, f"never got to {name}"
        told = dataset.prove()
        assert [row["text"] for row in told[1]] == [row["text"] for row in undisturbed[1]]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("where", LONG_STORES)
@pytest.mark.parametrize("seed", range(-(-KILLS // KILLS_A_STORM // len(LONG_STORES))))
def test_killed_at_random(request: pytest.FixtureRequest, tmp_path: Path, where: str, seed: int) -> None:
    """At steps and moments; dataset by dataset, as one is cut."""
    chance = random.Random(f"steps {where} {seed}")
    names = [name for name in [*STEPS, "store.temporary", "store.linked", "store.put"] if applies(name, where)]
    root = request.getfixturevalue(where)
    kills = 0
    for number in itertools.count():
        with Dataset(f"{root}/{number}", tmp_path / str(number)) as dataset:
            while kills + dataset.kills < KILLS_A_STORM and not dataset.is_cut:
                if chance.random() < 0.5:
                    dataset.run(f"{chance.choice(names)}:{chance.choice((1, 1, 2, 3, 5, 8))}")
                else:
                    dataset.run(kill_after=chance.uniform(0, 2.0))
            dataset.prove()
            kills += dataset.kills
        if kills >= KILLS_A_STORM:
            break
