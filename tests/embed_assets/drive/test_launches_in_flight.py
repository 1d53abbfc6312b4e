"""A driver whose backend cannot yet tell which launches in flight are an earlier run's."""

from pathlib import Path
from typing import Any

import pytest

from embed_assets.checks.proof import Proof
from embed_assets.drive.driver import Driver
from embed_assets.drive.events import Committed
from embed_assets.drive.outages import Stopped
from resources.lake import Lake
from tests.kits.compute.fake_sky import SkyBench
from tests.kits.drive.bench import AtOnce, commit, job_of


class Flight:
    """Two shards, on a server where launches are in flight when the driver starts."""

    def __init__(self, folder: Path) -> None:
        self.lake, self.bench = Lake(str(folder)), SkyBench()
        self.jobs = [job_of(self.lake, stride) for stride in range(2)]
        self.told: list[str] = []
        self.script: dict[int, Any] = {}
        self.alive = True
        self.turn = 0

    def driver(self) -> Driver:
        return Driver(
            self.lake, self.bench.compute, self.jobs, prove=lambda job, manifest: Proof(), tell=self.tell,
            provers=AtOnce(), clock=self.bench.clock, sleep=self.sleep, alive=lambda: self.alive,
        )  # fmt: skip

    def tell(self, text: str, *, warning: bool = False) -> None:
        self.told.append(text)

    def sleep(self, seconds: float) -> None:
        for job in self.bench.compute._jobs.values():
            if job.future is not None:
                job.future.result(10)
        self.bench.clock.sleep(max(seconds, 0.1))
        self.turn += 1
        assert self.turn < 100, "the driver does not come to an end"
        self.script.get(self.turn, lambda: None)()

    def land(self, name: str | None) -> None:
        self.bench.sky.in_flight.clear()
        if name is not None:
            self.bench.sky.add(name)

    def succeed(self) -> None:
        for job in self.jobs:
            commit(self.lake, job)
        for row in self.bench.sky.rows:
            row["status"] = "SUCCEEDED"


def test_a_successor_waits_for_its_predecessors_launch_and_attaches(tmp_path: Path) -> None:
    flight = Flight(tmp_path)
    name = f"embed-{flight.jobs[0].name}"
    flight.bench.sky.pending_launch(name)
    flight.script = {3: lambda: flight.land(name), 8: flight.succeed}
    outcomes = list(flight.driver().run())
    assert [type(outcome) for outcome in outcomes] == [Committed, Committed]
    assert sum("launches of 1 jobs are in flight" in text for text in flight.told) == 1
    assert len(flight.bench.sky.rows) == 2, "one attached to, one launched"


def test_a_run_that_is_cancelled_meanwhile_cancels_what_lands(tmp_path: Path) -> None:
    flight = Flight(tmp_path)
    flight.bench.sky.pending_launch(None)
    flight.script = {
        2: lambda: setattr(flight, "alive", False),
        6: lambda: flight.land(f"embed-{flight.jobs[1].name}"),
    }
    driver = flight.driver()
    with pytest.raises(Stopped):
        list(driver.run())
    assert driver.cancel() == 1
    assert [row["status"] for row in flight.bench.sky.rows] == ["CANCELLED"]
