"""The SkyPilot backend against a server that loses answers, restarts, and has jobs of others: nothing runs twice."""

import threading
import time
from typing import Any

import pytest

from resources.compute import BackendBroken, ComputeUnavailable, JobState
from resources.skypilot.compute import ABSENT_SECONDS, VANISHED_SECONDS
from resources.skypilot.deadlines import MAX_STUCK, DeadlinePassed, Deadlines
from resources.skypilot.job import Phase
from tests.kits.compute.fake_sky import ApiServerAuthenticationError, ClusterNotUpError, SkyBench


def names(bench: SkyBench) -> list[str]:
    return [row["job_name"] for row in bench.sky.rows]


def test_a_job_from_submit_to_success_with_its_facts() -> None:
    bench = SkyBench()
    handle = bench.launch("a")
    assert names(bench) == ["embed-a"]
    assert bench.sky.tasks[0]["envs"] == {"A": "b", "EMBED_JOB": "s3://lake/a.json"}
    row = bench.sky.rows[0]
    assert bench.poll(handle).state is JobState.QUEUED
    row["status"] = "STARTING"
    assert bench.poll(handle).state is JobState.STARTING
    bench.sky.run(row)
    bench.poll(handle)
    facts = bench.poll(handle, after=90).facts
    assert facts.id == 1 and facts.name == "embed-a" and facts.region == "us-east-1"
    assert facts.accelerators == "L4:1" and facts.spot is True and facts.machine == "g6.xlarge"
    assert facts.seconds_queued == 0 and facts.seconds_launch == 20 and facts.seconds_run == 100
    assert facts.dollars_per_hour == 0.3 and facts.cost_dollars == round(0.3 * 100 / 3600, 4)
    assert facts.dashboard == "http://host:1/sky/dashboard/jobs/1"  # no password
    row["status"] = "SUCCEEDED"
    assert bench.poll(handle).state is JobState.SUCCEEDED


def test_one_queue_call_serves_all_jobs_and_no_more_than_one_an_interval() -> None:
    bench = SkyBench()
    handles = [bench.launch(f"p{i}") for i in range(50)]
    bench.sky.calls.clear()
    bench.poll(*handles)
    bench.poll(*handles, after=1)
    assert bench.sky.calls.count("queue") == 1
    bench.poll(*handles)
    assert bench.sky.calls.count("queue") == 2


def test_a_round_of_submits_costs_one_queue_call() -> None:
    bench = SkyBench()
    for i in range(20):
        bench.launch(f"p{i}")
    assert bench.sky.calls.count("queue") == 1


def test_submitting_a_live_name_again_returns_its_job() -> None:
    bench = SkyBench()
    assert bench.launch("a") == bench.submit("a")
    again = bench.new_process()
    assert again.submit("a", None, "u").name == "a"  # type: ignore[arg-type]
    assert again.poll([again._jobs["a"].handle])
    assert len(bench.sky.rows) == 1


def test_find_during_an_own_launch_is_that_launch() -> None:
    bench = SkyBench()
    bench.sky.gate.clear()
    handle = bench.submit("a")
    while not bench.sky.rows:
        pass
    assert bench.compute.find(["a"]) == {"a": handle}
    bench.sky.gate.set()
    assert bench.poll(handle) and bench.poll(handle).facts.attached is False


def test_find_goes_by_the_exact_name() -> None:
    bench = SkyBench()
    for name in ("embed-a-10", "embed-a-1", "other-embed-a-1", "embed-a"):
        bench.sky.add(name, "RUNNING")
    bench.sky.add("embed-done", "SUCCEEDED")
    bench.sky.add("embed-going", "CANCELLING")
    found = bench.compute.find(["a-1", "b", "done", "going"])
    assert list(found) == ["a-1"]
    assert bench.poll(found["a-1"]).facts.id == 2


def test_of_several_live_jobs_of_a_name_the_oldest_is_taken() -> None:
    bench = SkyBench()
    bench.sky.add("embed-a", "RUNNING")
    bench.sky.add("embed-a", "PENDING")
    assert bench.poll(bench.compute.find(["a"])["a"]).facts.id == 1


@pytest.mark.parametrize("lose", ["post", "answer"])
def test_a_lost_answer_finds_the_job_instead_of_launching_a_second(lose: str) -> None:
    bench = SkyBench()
    bench.sky.lose = lose
    handle = bench.launch("a")
    assert len(bench.sky.rows) == 1
    assert bench.compute._jobs["a"].status.detail.startswith("the launch's answer got lost")
    bench.sky.lose = ""
    bench.poll(handle)
    assert bench.poll(handle).facts.id == 1
    assert len(bench.sky.rows) == 1


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
    assert names(bench) == ["embed-a"]


def test_a_request_that_a_crashed_server_forgot_is_sent_again() -> None:
    bench = SkyBench()
    bench.sky.lose = "answer"
    handle = bench.launch("a")
    bench.sky.rows.clear()
    for _ in range(8):
        bench.poll(handle, after=ABSENT_SECONDS / 3)
    assert names(bench) == ["embed-a"] and bench.sky.calls.count("launch") == 2
    assert bench.poll(handle).facts.id == 1


def test_an_outage_is_told_and_changes_nothing() -> None:
    bench = SkyBench()
    handle = bench.launch("a")
    bench.sky.down = True
    for _ in range(3):
        with pytest.raises(ComputeUnavailable, match="Could not connect"):
            bench.poll(handle)
    with pytest.raises(ComputeUnavailable):
        bench.compute.submit("b", None, "u")  # type: ignore[arg-type]
    bench.sky.down = False
    assert bench.poll(handle).state is JobState.QUEUED
    assert names(bench) == ["embed-a"]


def test_a_call_that_hangs_meets_its_deadline() -> None:
    bench = SkyBench(call_timeout_seconds=0.05)
    bench.sky.gate.clear()
    bench.sky.queue_v2 = lambda **_: bench.sky.gate.wait(5)  # type: ignore[method-assign]
    with pytest.raises(ComputeUnavailable, match=r"no answer within 0\.05 s"):
        bench.compute.find(["a"])
    bench.sky.gate.set()


def test_slow_launches_hold_up_neither_each_other_nor_the_polls() -> None:
    bench = SkyBench(launch_parallelism=32)
    first = bench.launch("first")
    bench.sky.gate.clear()
    for i in range(32):
        bench.submit(f"p-{i}")
    jobs = [bench.compute._jobs[f"p-{i}"] for i in range(32)]
    while any(job.request is None and job.phase is Phase.LAUNCHING for job in jobs):
        time.sleep(0.01)
    assert bench.sky.calls.count("launch") == 33
    assert bench.poll(first).state is JobState.QUEUED
    assert {job.phase for job in jobs} == {Phase.LAUNCHING}
    bench.sky.gate.set()


def test_launches_that_hang_past_their_deadline_hold_up_no_poll() -> None:
    bench = SkyBench(launch_parallelism=MAX_STUCK, call_timeout_seconds=0.3)
    first = bench.launch("first")
    bench.sky.gate.clear()
    hanging = [bench.compute._jobs[bench.submit(f"p-{i}").name] for i in range(MAX_STUCK)]
    while any(job.phase is Phase.LAUNCHING for job in hanging):
        time.sleep(0.01)
    assert {job.phase for job in hanging} == {Phase.LOST}
    assert bench.compute._client._launches._stuck == MAX_STUCK
    assert bench.poll(first).state is JobState.QUEUED
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


def test_another_attempt_is_another_handle_and_another_job() -> None:
    bench = SkyBench()
    first = bench.launch("a")
    bench.sky.rows[0] |= {"status": "FAILED", "failure_reason": "Job exited with exit code 1"}
    assert bench.poll(first).state is JobState.FAILED
    second = bench.launch("a")
    assert second != first
    assert bench.poll(second).facts.id == 2


def test_recoveries_are_told_once_and_counted() -> None:
    bench = SkyBench()
    handle = bench.launch("a")
    bench.sky.run(bench.sky.rows[0])
    assert bench.poll(handle).notice == ""
    bench.sky.rows[0]["status"] = "RECOVERING"
    assert bench.poll(handle).state is JobState.RECOVERING
    bench.clock.now += 10
    bench.sky.run(bench.sky.rows[0], recoveries=1, region="us-west-2")
    notice = bench.poll(handle).notice
    assert "was started again (recovery 1)" in notice and "or its worker asked for another start" in notice
    status = bench.poll(handle)
    assert status.notice == "" and status.facts.recoveries == 1 and status.facts.region == "us-west-2"
    assert status.facts.cost_dollars > 0


def test_a_job_attached_after_recoveries_has_no_cost_and_says_why() -> None:
    bench = SkyBench()
    bench.sky.run(bench.sky.add("embed-a"), recoveries=2)
    facts = bench.poll(bench.compute.find(["a"])["a"]).facts
    assert facts.cost_dollars is None and "2 of its 3 machines" in facts.unknown["cost_dollars"]
    assert facts.seconds_queued is None and "attached" in facts.unknown["seconds_queued"]
    assert facts.attached is True


def test_a_late_job_is_reported_once() -> None:
    bench = SkyBench(start_deadline_seconds=100)
    handle = bench.launch("a")
    assert bench.poll(handle, after=50).notice == ""
    assert "has not started to run within 100 s" in bench.poll(handle, after=60).notice
    assert bench.poll(handle, after=60).notice == ""
    assert bench.sky.cancelled == []


def test_a_late_job_is_cancelled_where_the_settings_say_so() -> None:
    bench = SkyBench(start_deadline_seconds=100, cancel_when_late=True)
    late, running = bench.launch("a"), bench.launch("b")
    bench.sky.run(bench.sky.rows[1])
    statuses = bench.poll(late, running, after=200)
    assert statuses[late].state is JobState.REFUSED and "cancelled" in statuses[late].detail
    assert statuses[running].state is JobState.RUNNING
    assert bench.sky.cancelled == [[1]]


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


def test_logs_are_asked_for_again_while_there_is_only_the_notice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resources.skypilot.client.LOG_PAUSE", 0)
    bench = SkyBench()
    handle = bench.launch("a")
    bench.sky.rows[0]["status"] = "FAILED"
    bench.poll(handle)
    bench.sky.logs = ["Job 1 is already in terminal state FAILED.", "", "\x1b[31mCUDA out of memory\x1b[0m"]
    assert bench.compute.logs(handle) == "CUDA out of memory\n[the whole log: `sky jobs logs 1`]"


def test_a_job_that_the_server_forgot_fails_at_last() -> None:
    bench = SkyBench()
    handle = bench.launch("a")
    bench.sky.rows.clear()
    assert not bench.poll(handle).state.final
    assert not bench.poll(handle, after=VANISHED_SECONDS / 2).state.final
    status = bench.poll(handle, after=VANISHED_SECONDS)
    assert status.state is JobState.FAILED and "no longer knows managed job 1" in status.detail


def test_jobs_go_to_the_pool() -> None:
    bench = SkyBench(pool="warm")
    handle = bench.launch("a")
    assert bench.poll(handle).facts.pool == "warm"


def test_the_end_of_a_session_drops_what_was_not_sent_and_leaves_the_rest() -> None:
    bench = SkyBench(launch_parallelism=1)
    bench.sky.gate.clear()
    bench.submit("a")
    while not bench.sky.rows:
        pass
    bench.submit("b")
    bench.compute.close()
    bench.sky.gate.set()
    last = bench.compute._jobs["b"].future
    assert last is not None
    last.result(10)
    assert names(bench) == ["embed-a"] and bench.sky.cancelled == []
