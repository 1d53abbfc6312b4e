"""A driver that is to stop."""

from pathlib import Path

import pytest

from embed_assets.drive.outages import Stopped
from resources.compute import JobHandle, JobState
from tests.kits.drive.bench import DriverBench


def test_a_driver_is_stopped_while_the_lake_is_away_and_cancels_what_an_earlier_one_left(tmp_path: Path) -> None:
    bench = DriverBench(tmp_path)
    left = bench.compute.start(bench.jobs[0].name, JobState.RUNNING)
    bench.drivers_lake.store.away = ""
    alive = iter([True, False])
    driver, cancelled = bench.driver(alive=lambda: next(alive)), list[JobHandle]()
    with pytest.raises(Stopped):
        list(driver.run())
    bench.compute.cancel = cancelled.extend  # type: ignore[method-assign]
    assert (driver.cancel(), cancelled) == (1, [left])


def test_a_driver_that_is_to_stop_says_what_is_open(tmp_path: Path) -> None:
    bench = DriverBench(tmp_path, 3, slots=2)
    bench.states("running")
    alive = iter([True, True, False])
    driver = bench.driver(alive=lambda: next(alive))
    with pytest.raises(Stopped):
        list(driver.run())
    assert sorted(handle.name for handle in driver.open_handles) == sorted(p.name for p in bench.jobs[:2])
    assert bench.compute.calls["cancel"] == 0, "whether to cancel is the caller's to say"


def test_a_driver_is_stopped_while_the_backend_is_away(tmp_path: Path) -> None:
    bench = DriverBench(tmp_path)
    bench.compute.on_ask = lambda _: False
    alive = iter([True, True, False])
    with pytest.raises(Stopped):
        bench.run(alive=lambda: next(alive))
