"""The life of a job on SkyPilot: submitted, found, polled, recovered, late, read."""

import pytest

from resources.compute import JobState
from resources.skypilot.compute import VANISHED_SECONDS
from tests.kits.compute.fake_sky import JOB, SkyBench


def test_a_job_from_submit_to_success_with_its_facts() -> None:
    bench = SkyBench()
    handle = bench.launch("a")
    assert bench.names == ["embed-a"]
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
    assert again.submit("a", JOB, "u").name == "a"  # type: ignore[arg-type]
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
