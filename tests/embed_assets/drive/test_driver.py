"""The driver: each partition ends once, as the lake says."""

import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from embed_assets.checks.proof import Proof
from embed_assets.drive.events import Committed, Failed
from resources.compute import JobHandle, JobState, JobStatus
from tests.kits.drive.bench import DriverBench, commit
from tests.kits.processes import wait_until


@pytest.mark.slow
@given(data=st.data())
@hypothesis_settings(max_examples=60)
def test_whatever_happens_each_partition_ends_once_and_as_the_lake_says(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    draw = data.draw
    strides, attempts = draw(st.integers(1, 4)), draw(st.integers(1, 3))
    outlives = draw(st.booleans())
    bench = DriverBench(tmp_path_factory.mktemp("lake"), strides, slots=draw(st.integers(1, 4)), outlives=outlives)
    compute, budget = bench.compute, 60
    late: list[JobHandle] = []

    def choose(*options: str) -> str:
        """Free to do harm for a while; then everything works, so that a run must come to its end."""
        nonlocal budget
        budget -= 1
        return draw(st.sampled_from(options)) if budget > 0 else options[0]

    compute.on_submit = lambda: choose("yes", "yes", "lost after", "lost before")
    compute.on_ask = lambda _: choose("yes", "yes", "yes", "no") == "yes"

    def advance(handle: JobHandle, status: JobStatus) -> None:
        if late and choose("wait", "now") == "now":
            bench.commit(late.pop())
        what = choose(
            "commit", "succeed", "queued", "running", "recovering", "commit but go on", "fail", "fail and commit",
            "fail and commit late", "succeed without manifest", "refused", "cancelled",
        )  # fmt: skip
        if "commit" in what and "late" not in what:
            bench.commit(handle)
        if what == "succeed":
            bench.commit(handle)
        if "late" in what:
            late.append(handle)
        status.state = {
            "commit": JobState.SUCCEEDED, "succeed": JobState.SUCCEEDED, "succeed without manifest": JobState.SUCCEEDED,
            "queued": JobState.QUEUED, "running": JobState.RUNNING, "recovering": JobState.RECOVERING,
            "commit but go on": JobState.RUNNING, "fail": JobState.FAILED, "fail and commit": JobState.FAILED,
            "fail and commit late": JobState.FAILED, "refused": JobState.REFUSED, "cancelled": JobState.CANCELLED,
        }[what]  # fmt: skip

    compute.advance = advance
    for made in bench.jobs:
        before = choose("nothing", "committed", "live", "damaged")
        if before == "committed":
            commit(bench.lake, made)
        elif before == "live" and outlives:
            compute.start(made.name, JobState.RUNNING)
        elif before == "damaged":
            commit(bench.lake, made, digest="ff")
    outcomes = bench.run(max_attempts=attempts)

    ended = outcomes
    assert sorted(outcome.job.shard.key for outcome in ended) == sorted(p.shard.key for p in bench.jobs)
    for outcome in ended:
        made = next(p for p in bench.jobs if p.shard.key == outcome.job.shard.key)
        manifest = bench.lake.shard(made.shard)
        assert outcome.attempts <= attempts
        assert compute.answered[made.name] <= attempts
        if isinstance(outcome, Committed):
            assert outcome.manifest == manifest
            assert manifest is not None
            assert manifest.input.digest == made.input.digest
        else:
            assert not compute.live(made.name), "given up with a job still alive"
            assert outcome.error
    assert compute.calls["poll"] <= len(bench.clock.sleeps)
    assert compute.most_live <= max(compute.slots, 0) + strides  # found ones may exceed the slots
    said = re.findall("does not answer|answers again", bench.told)
    assert said.count("does not answer") - said.count("answers again") in (0, 1, 2)


def test_committed_partitions_are_adopted_and_nothing_is_asked_of_the_backend(tmp_path: Path) -> None:
    bench = DriverBench(tmp_path, 3)
    for made in bench.jobs:
        commit(bench.lake, made)
    outcomes = bench.run()
    assert [(o.job.shard.key, o.adopted, o.attempts) for o in outcomes if isinstance(o, Committed)] == [
        ("d-00000", True, 0), ("d-00001", True, 0), ("d-00002", True, 0)
    ]  # fmt: skip
    assert not bench.compute.calls


def test_launching_and_polling_do_not_wait_until_all_that_is_committed_is_proved(tmp_path: Path) -> None:
    bench = DriverBench(tmp_path, 7)
    for made in bench.jobs[:6]:
        commit(bench.lake, made)
    bench.states("running", "running", "commit")
    bench.compute.poll_seconds = 0.01

    def proof(*_: Any) -> Proof:
        """On another thread than the driver's, until it has polled three times."""
        wait_until(lambda: bench.compute.calls["poll"] >= 3, "three polls")
        return Proof()

    outcomes = list(bench.driver(prove=proof, provers=None, clock=time.monotonic, sleep=time.sleep).run())
    assert sorted((o.job.shard.key, isinstance(o, Committed) and o.adopted) for o in outcomes) == [
        *((f"d-{i:05d}", True) for i in range(6)), ("d-00006", False),
    ]  # fmt: skip


def test_each_partition_is_reported_at_its_own_commit(tmp_path: Path) -> None:
    bench = DriverBench(tmp_path, 2, slots=1)
    bench.states("running", "commit", "succeeded")
    seen: list[tuple[str, int]] = []
    for outcome in bench.driver().run():
        if isinstance(outcome, Committed):
            seen.append((outcome.job.shard.key, len(list(tmp_path.rglob("_manifest.json")))))
            assert outcome.status is not None
            assert outcome.elapsed == 2.0
    assert seen == [("d-00000", 1), ("d-00001", 2)]


@pytest.mark.parametrize("last", ["succeeded", "failed", "cancelled", "refused"])
def test_the_manifest_decides_not_the_state(tmp_path: Path, last: str) -> None:
    bench = DriverBench(tmp_path)
    bench.states("running", f"{last}+commit")
    (outcome,) = bench.run()
    assert isinstance(outcome, Committed)


def test_success_without_a_manifest_is_looked_at_twice_then_tried_again(tmp_path: Path) -> None:
    bench = DriverBench(tmp_path)
    bench.states("succeeded")
    outcomes = bench.run(max_attempts=2)
    (outcome,) = outcomes
    assert isinstance(outcome, Failed)
    assert "there is no manifest" in outcome.error
    assert bench.compute.submitted[bench.jobs[0].name] == 2


def test_a_manifest_that_comes_just_after_success_counts(tmp_path: Path) -> None:
    bench = DriverBench(tmp_path)
    bench.states("succeeded")
    driver = bench.driver().run()
    original, polls = bench.compute.poll, 0

    def poll(handles: Sequence[JobHandle]) -> dict[JobHandle, JobStatus]:
        nonlocal polls
        polls += 1
        if polls == 2:
            bench.commit(handles[0])
        return original(handles)

    bench.compute.poll = poll  # type: ignore[method-assign]
    assert [type(o) for o in list(driver)] == [Committed]
    assert bench.compute.calls["submit"] == 1


def test_failed_jobs_are_tried_again_up_to_the_limit_with_growing_pauses(tmp_path: Path) -> None:
    bench = DriverBench(tmp_path)
    bench.states("running", "failed")
    outcomes = bench.run(max_attempts=3)
    (outcome,) = outcomes
    assert isinstance(outcome, Failed)
    assert (outcome.attempts, outcome.log, outcome.error) == (3, "log of 2", "detail failed")
    assert "attempt 1 of 3 failed: detail failed" in bench.told
    assert bench.compute.submitted[bench.jobs[0].name] == 3


@pytest.mark.parametrize("state", ["refused", "cancelled"])
def test_what_cannot_succeed_is_not_tried_again(tmp_path: Path, state: str) -> None:
    bench = DriverBench(tmp_path, 2)
    bench.states(state)
    outcomes = bench.run(max_attempts=3)
    assert [(type(o), o.attempts) for o in outcomes] == [(Failed, 1), (Failed, 1)]
    assert bench.compute.calls["submit"] == 2


def test_one_poll_an_interval_whatever_the_number_of_jobs(tmp_path: Path) -> None:
    bench = DriverBench(tmp_path, 8, slots=8)
    bench.states("queued", "starting", "running", "commit", "succeeded")
    bench.run()
    assert bench.compute.calls["poll"] == len(bench.clock.sleeps) == 4
    assert set(bench.clock.sleeps) == {1.0}


def test_the_slots_are_never_exceeded(tmp_path: Path) -> None:
    bench = DriverBench(tmp_path, 7, slots=2)
    bench.states("running", "succeeded+commit")
    assert len(bench.run()) == 7
    assert bench.compute.most_live == 2
