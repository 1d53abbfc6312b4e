"""A server or controller that is away, hangs or says no."""

import threading
import time

import pytest

from resources.compute import BackendBroken, ComputeUnavailable, JobState
from resources.skypilot.deadlines import MAX_STUCK, DeadlinePassed, Deadlines
from tests.kits.compute.fake_sky import JOB, ApiServerAuthenticationError, ClusterNotUpError, SkyBench


def test_an_outage_is_told_and_changes_nothing() -> None:
    bench = SkyBench()
    handle = bench.launch("a")
    bench.sky.down = True
    for _ in range(3):
        with pytest.raises(ComputeUnavailable, match="Could not connect"):
            bench.poll(handle)
    with pytest.raises(ComputeUnavailable):
        bench.compute.submit("b", JOB, "u")
    bench.sky.down = False
    assert bench.poll(handle).state is JobState.QUEUED
    assert bench.names == ["embed-a"]


def test_a_call_that_hangs_meets_its_deadline() -> None:
    bench = SkyBench(call_timeout_seconds=0.05)
    bench.sky.gate.clear()
    bench.sky.queue_v2 = lambda **_: bench.sky.gate.wait(5)  # type: ignore[method-assign]
    with pytest.raises(ComputeUnavailable, match=r"no answer within 0\.05 s"):
        bench.compute.find(["a"])
    bench.sky.gate.set()


def test_calls_that_hang_are_bounded_and_counted_until_they_return() -> None:
    deadlines, gate = Deadlines(), threading.Event()
    for _ in range(MAX_STUCK):
        with pytest.raises(DeadlinePassed, match="no answer"):
            deadlines.call(gate.wait, 0.001)
    with pytest.raises(DeadlinePassed, match="earlier calls hang"):
        deadlines.call(gate.wait, 0.001)
    gate.set()
    while deadlines._stuck:
        time.sleep(0.01)
    assert deadlines.call(lambda: "answer", 1) == "answer"


def test_a_rejected_token_is_for_a_person_at_first_and_an_outage_later() -> None:
    bench = SkyBench()
    bench.sky.error = ApiServerAuthenticationError("401")
    with pytest.raises(BackendBroken, match="sky api info"):
        bench.compute.find(["a"])
    bench.sky.error = None
    handle = bench.launch("a")
    bench.sky.error = ApiServerAuthenticationError("401")
    with pytest.raises(ComputeUnavailable, match="401"):
        bench.poll(handle)


@pytest.mark.parametrize("status", [None, "STOPPED"])
def test_no_controller_yet_or_one_that_sleeps_means_that_nothing_is_live(status: str | None) -> None:
    bench = SkyBench()
    handle = bench.launch("b")
    error = ClusterNotUpError("No in-progress managed jobs", status)
    bench.sky.queue_v2 = bench.sky.cancel = lambda **_: (_ for _ in ()).throw(error)  # type: ignore[method-assign]
    assert bench.compute.find(["a"]) == {}
    bench.compute.cancel([handle])


@pytest.mark.parametrize("status", ["INIT", "UP", "AUTOSTOPPING"])
def test_a_controller_that_cannot_be_reached_is_an_outage_and_not_an_empty_queue(status: str) -> None:
    bench = SkyBench()
    bench.launch("a")
    again = bench.new_process()
    answers = bench.sky.queue_v2, bench.sky.cancel
    error = ClusterNotUpError("No in-progress managed jobs.", status)
    bench.sky.queue_v2 = bench.sky.cancel = lambda **_: (_ for _ in ()).throw(error)  # type: ignore[method-assign]
    with pytest.raises(ComputeUnavailable, match=f"the controller is {status}"):
        again.find(["a"])
    bench.sky.queue_v2 = answers[0]  # type: ignore[method-assign]
    handle = again.find(["a"])["a"]
    with pytest.raises(ComputeUnavailable, match="`sky jobs cancel 1`"):
        again.cancel([handle])
    bench.sky.cancel = answers[1]  # type: ignore[method-assign]
    again.cancel([handle])
    assert [row["status"] for row in bench.sky.rows] == ["CANCELLED"]
