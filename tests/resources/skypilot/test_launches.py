"""Launches that are lost, slow, refused or somebody else's: none makes a second job."""

import re
from typing import Any

import pytest

from resources.compute import JobHandle, JobState
from resources.skypilot.compute import ABSENT_SECONDS
from resources.skypilot.deadlines import MAX_STUCK
from tests.kits.compute.fake_sky import ClusterNotUpError, SkyBench
from tests.kits.processes import wait_until


@pytest.mark.parametrize("lose", ["post", "answer"])
def test_a_lost_answer_finds_the_job_instead_of_launching_a_second(lose: str) -> None:
    bench = SkyBench()
    bench.poll(bench.launch("first"))
    bench.sky.lose = lose
    handle = bench.launch("a")
    assert bench.names == ["embed-first", "embed-a"]
    assert bench.poll(handle, after=0).detail.startswith("the launch's answer got lost")
    bench.sky.lose = ""
    bench.poll(handle)
    assert bench.poll(handle).facts.id == 2
    assert bench.names == ["embed-first", "embed-a"]


def test_a_lost_launch_is_looked_for_by_its_name_and_not_among_all_that_ever_ran() -> None:
    bench = SkyBench()
    known = bench.launch("books-00001")
    bench.sky.lose = "post"
    lost = [bench.launch(f"books-0000{i}") for i in (2, 3)]
    bench.sky.lose = ""
    asked: list[Any] = []
    queue = bench.sky.queue_v2
    bench.sky.queue_v2 = lambda **how: asked.append((how["name_match"], how["job_ids"])) or queue(**how)  # type: ignore
    statuses = bench.poll(known, *lost)
    assert asked == [("embed-books-0000", None), (None, [1, 2, 3])]
    assert {status.facts.id for status in statuses.values()} == {1, 2, 3}


def test_a_lost_launch_is_not_taken_for_an_earlier_job_of_that_name() -> None:
    bench = SkyBench()
    bench.sky.add("embed-a", "FAILED", submitted_at=bench.clock() - 86_400)
    bench.sky.lose = "post"
    handle = bench.launch("a")
    bench.sky.lose = ""
    bench.poll(handle)
    assert bench.poll(handle).facts.id == 2


def test_a_launch_that_may_still_land_is_not_taken_for_a_job_that_an_earlier_run_cancelled() -> None:
    """Terminated, re-executed at once, and the server is slow: the launch would be nobody's."""
    bench = SkyBench()
    bench.sky.add("embed-a", "CANCELLED", submitted_at=bench.clock() - 5)
    bench.sky.lose = "request"
    handle = bench.launch("a")
    bench.sky.lose = ""
    waiting = bench.sky.pending_launch("embed-a")
    assert not bench.poll(handle).state.final
    assert not bench.poll(handle, after=2 * ABSENT_SECONDS).state.final
    bench.sky.in_flight.remove(waiting)
    bench.sky.add("embed-a")
    bench.poll(handle)
    assert bench.poll(handle).facts.id == 2


def test_a_request_that_never_arrived_is_sent_again_only_after_a_while() -> None:
    bench = SkyBench()
    bench.sky.lose = "request"
    handle = bench.launch("a")
    bench.sky.lose = ""
    bench.poll(handle, after=20)
    assert bench.sky.rows == []
    waiting = bench.sky.pending_launch("embed-a")
    bench.poll(handle, after=2 * ABSENT_SECONDS)
    assert bench.sky.rows == []  # the server has the request after all
    bench.sky.in_flight.remove(waiting)
    bench.poll(handle)
    bench.poll(handle)
    assert bench.names == ["embed-a"]


def test_a_request_that_a_crashed_server_forgot_is_sent_again() -> None:
    bench = SkyBench()
    bench.sky.lose = "answer"
    handle = bench.launch("a")
    bench.sky.rows.clear()
    for _ in range(8):
        bench.poll(handle, after=ABSENT_SECONDS / 3)
    assert bench.names == ["embed-a"] and bench.sky.calls.count("launch") == 2
    assert bench.poll(handle).facts.id == 1


def test_slow_launches_hold_up_neither_each_other_nor_the_polls() -> None:
    bench = SkyBench(launch_parallelism=32)
    first = bench.launch("first")
    bench.sky.gate.clear()
    slow = [bench.submit(f"p-{i}") for i in range(32)]
    wait_until(lambda: bench.sky.calls.count("launch") == 33, "all launches are sent")
    assert bench.poll(first).state is JobState.QUEUED
    assert {status.state for status in bench.poll(*slow, after=0).values()} == {JobState.STARTING}
    assert not any(launch.done() for launch in bench.threads.futures[1:])
    bench.sky.gate.set()


def test_launches_that_hang_past_their_deadline_hold_up_no_poll() -> None:
    bench = SkyBench(launch_parallelism=MAX_STUCK, call_timeout_seconds=0.3)
    first = bench.launch("first")
    bench.sky.gate.clear()
    hanging = [bench.submit(f"p-{i}") for i in range(MAX_STUCK)]
    bench.threads.settle()
    assert bench.poll(first).state is JobState.QUEUED
    assert {told(bench, handle) for handle in hanging} == {"no answer within 1.5 s"}
    last = bench.launch("last")
    assert told(bench, last) == f"{MAX_STUCK} earlier calls hang"
    bench.sky.gate.set()


def told(bench: SkyBench, handle: JobHandle) -> str:
    """Why the answer to a launch got lost."""
    detail = bench.poll(handle, after=0).detail
    found = re.search(r"the launch's answer got lost \(.*?([^:]*)\); looking for the job", detail)
    assert found, detail
    return found[1].strip()


def test_a_launch_that_meets_a_controller_out_of_reach_is_looked_for_before_it_is_sent_again() -> None:
    bench = SkyBench()
    bench.sky.launch_error = ClusterNotUpError("Failed to connect to jobs controller", "INIT")
    handle = bench.launch("a")
    bench.sky.launch_error = None
    bench.sky.add("embed-a")
    bench.poll(handle)
    assert bench.poll(handle).facts.id == 1 and len(bench.sky.rows) == 1


def test_a_rejected_launch_is_final_and_a_failed_one_is_not() -> None:
    bench = SkyBench()
    bench.sky.launch_error = ValueError("Invalid accelerator name: L5")
    handle = bench.launch("a")
    status = bench.poll(handle)
    assert status.state is JobState.REFUSED and "Invalid accelerator name: L5" in status.detail
    assert bench.compute.logs(handle) == "(no managed job was made, so there is no log)"
    bench.sky.launch_error = RuntimeError("something odd")
    assert bench.poll(bench.launch("b")).state is JobState.FAILED


def test_the_end_of_a_session_drops_what_was_not_sent_and_leaves_the_rest() -> None:
    bench = SkyBench(launch_parallelism=1)
    bench.sky.gate.clear()
    bench.submit("a")
    while not bench.sky.rows:
        pass
    bench.submit("b")
    bench.compute.close()
    bench.sky.gate.set()
    bench.threads.settle()
    assert bench.names == ["embed-a"] and bench.sky.cancelled == []
