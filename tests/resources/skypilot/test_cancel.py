"""Cancelling."""

import pytest

from resources.compute import ComputeUnavailable, JobState
from tests.kits.compute.fake_sky import SkyBench


def test_cancel_takes_exactly_these_jobs() -> None:
    bench = SkyBench()
    bench.sky.add("embed-z", "RUNNING")
    handles = [bench.launch(name) for name in ("a", "b", "c")]
    bench.compute.cancel(handles[:2])
    assert bench.sky.cancelled == [[2, 3]]
    assert bench.poll(handles[0]).state is JobState.CANCELLED
    assert bench.poll(handles[2]).state is JobState.QUEUED


def test_cancel_reaches_a_launch_in_flight_and_stops_one_that_was_not_sent() -> None:
    bench = SkyBench(launch_parallelism=1)
    bench.sky.gate.clear()
    handles = [bench.submit("a"), bench.submit("b")]
    while not bench.sky.rows:
        pass
    bench.sky.gate.set()
    bench.compute.cancel(handles)
    assert [row["status"] for row in bench.sky.rows] == ["CANCELLED"] * len(bench.sky.rows)
    assert {status.state for status in bench.compute.poll(handles).values()} == {JobState.CANCELLED}


def test_cancel_in_an_outage_ends_with_the_command_for_it() -> None:
    bench = SkyBench()
    handle = bench.launch("a")
    bench.sky.down = True
    with pytest.raises(ComputeUnavailable, match="`sky jobs cancel 1`"):
        bench.compute.cancel([handle])
