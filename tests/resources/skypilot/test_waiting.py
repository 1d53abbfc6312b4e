"""Launches in flight that may be an earlier run's of the same job: waited for, and never in the driver's thread."""

from typing import Any

import pytest

from resources.compute import ComputeUnavailable, JobState
from resources.skypilot.lookout import SETTLE_SECONDS
from tests.kits.compute.fake_sky import SkyBench


@pytest.fixture
def bench() -> SkyBench:
    """Nobody sleeps: whoever does stops the test."""
    made = SkyBench()

    def sleep(seconds: float) -> None:
        raise AssertionError("the driver's thread sleeps")

    made.sleep = sleep
    return made


def test_find_is_to_be_asked_again_while_a_launch_of_a_killed_run_is_in_flight(bench: SkyBench) -> None:
    request = bench.sky.pending_launch("embed-a")
    bench.sky.pending_launch("embed-other")
    for _ in range(3):
        with pytest.raises(ComputeUnavailable, match="in flight in the API server already, such as embed-a"):
            bench.compute.find(["a"])
        bench.clock.now += SETTLE_SECONDS
    bench.sky.in_flight.remove(request)
    bench.sky.add("embed-a")
    assert list(bench.compute.find(["a"])) == ["a"]
    assert bench.compute.find(["b"]) == {}


def test_find_waits_for_hidden_launches_only_if_they_were_there_first(bench: SkyBench) -> None:
    request = bench.sky.pending_launch(None)
    with pytest.raises(ComputeUnavailable, match="1 launches in flight in the API server may be an earlier run's"):
        bench.compute.find(["a"])
    bench.sky.pending_launch(None)  # of another user, and there is always another one
    bench.sky.in_flight.remove(request)
    bench.sky.add("embed-a")  # it was ours: an earlier container had another user id
    assert list(bench.compute.find(["a"])) == ["a"]


def test_a_hidden_launch_that_hangs_is_not_ours(bench: SkyBench) -> None:
    bench.sky.pending_launch(None)
    with pytest.raises(ComputeUnavailable):
        bench.compute.find(["a"])
    bench.clock.now += SETTLE_SECONDS
    assert bench.compute.find(["a"]) == {}
    bench.launch("b")
    assert bench.names == ["embed-b"], "nor is it waited for a second time"


def test_a_submit_that_cannot_be_decided_holds_up_neither_polls_nor_other_submits(bench: SkyBench) -> None:
    running = bench.launch("first")
    bench.sky.run(bench.sky.rows[0])
    bench.clock.now += 60
    request = bench.sky.pending_launch("embed-a")
    waiting, other = bench.submit("a"), bench.launch("b")
    assert bench.names == ["embed-first", "embed-b"]
    statuses = bench.poll(running, waiting, other)
    assert [status.state for status in statuses.values()] == [JobState.RUNNING, JobState.QUEUED, JobState.QUEUED]
    assert "launches of 1 jobs are in flight" in statuses[waiting].detail
    bench.sky.in_flight.remove(request)
    bench.sky.add("embed-a")
    status = bench.poll(waiting)
    assert bench.names == ["embed-first", "embed-b", "embed-a"] and status.facts.attached is True
    assert status.facts.id == 3


def test_a_launch_that_the_server_forgot_is_made_once_it_is_gone(bench: SkyBench) -> None:
    request = bench.sky.pending_launch("embed-a")
    handle = bench.launch("a")
    for _ in range(30):
        assert bench.poll(handle).state is JobState.QUEUED
    assert "embed-a waits: launches of 1 jobs" in bench.poll(handle).notice
    assert bench.names == []
    bench.sky.in_flight.remove(request)
    bench.poll(handle)
    assert bench.names == ["embed-a"]
    assert bench.poll(handle).facts.attached is False


def test_on_a_busy_server_the_loop_goes_on_and_each_job_is_launched_once(bench: SkyBench) -> None:
    """Other users launch all the time; each of their requests takes 40 s."""
    handles: list[Any] = []
    for turn in range(30):
        bench.sky.pending_launch(None).request_id = f"other-{turn}"
        if len(bench.sky.in_flight) > 4:
            bench.sky.in_flight.pop(0)
        if turn < 5:
            handles.append(bench.submit(f"p{turn}"))
        bench.poll(*handles)
    assert sorted(bench.names) == [f"embed-p{turn}" for turn in range(5)]
    assert {status.state for status in bench.poll(*handles).values()} == {JobState.QUEUED}


def test_waiting_costs_no_queue_call_beside_the_one_of_a_poll(bench: SkyBench) -> None:
    running = bench.launch("first")
    bench.clock.now += 60
    bench.sky.pending_launch(None)
    waiting = bench.submit("a")
    bench.sky.calls.clear()
    bench.poll(running, waiting)
    assert bench.sky.calls.count("queue") == 1 and bench.sky.calls.count("status") == 1


def test_cancelling_one_that_waits_leaves_nothing_behind() -> None:
    bench = SkyBench()
    request = bench.sky.pending_launch(None)
    handle = bench.submit("a")
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        bench.clock.now += seconds
        slept.append(seconds)
        if len(slept) == 3:
            bench.sky.in_flight.remove(request)
            bench.sky.add("embed-a")

    bench.sleep = sleep
    bench.compute.cancel([handle])
    assert [row["status"] for row in bench.sky.rows] == ["CANCELLED"], "it was an earlier run's, and landed meanwhile"
    bench.sky.pending_launch(None)
    bench.clock.now += 60
    never = bench.submit("b")
    bench.sleep = bench.clock.sleep
    bench.compute.cancel([never])
    assert bench.poll(never).state is JobState.CANCELLED
    assert bench.names == ["embed-a"]
