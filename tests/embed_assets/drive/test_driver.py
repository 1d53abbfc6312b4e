"""The driver against a backend that does its worst: no partition is lost, doubled or called done too early."""

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
from embed_assets.drive.outages import Stopped
from embed_worker.lake.errors import StoreUnavailable
from embed_worker.lake.job import EmbedJob
from embed_worker.lake.manifests import ShardManifest
from embed_worker.lake.spec import Prompts
from resources.compute import JobHandle, JobState, JobStatus
from resources.lake import Lake
from tests.kits import pipelines as kit
from tests.kits.drive.bench import DriverBench, commit, job_of
from tests.kits.processes import wait_until


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
            commit(bench.lake, made, digest="another input")
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


@pytest.mark.parametrize("committed_anew", [False, True])
def test_a_shard_that_another_run_repairs_meanwhile_is_left_to_it(tmp_path: Path, committed_anew: bool) -> None:
    bench = DriverBench(tmp_path)
    (made,) = bench.jobs
    commit(bench.lake, made, created_at="damaged")
    bench.states("commit")

    def prove(judged: EmbedJob, manifest: ShardManifest) -> Proof:
        if manifest.created_at != "damaged":
            return Proof()
        assert bench.lake.retire(made.shard, manifest)
        if committed_anew:
            commit(bench.lake, made)
        return Proof("part-00000.parquet is missing")

    bench.prove = prove
    (outcome,) = bench.run()
    assert isinstance(outcome, Committed)
    assert outcome.adopted == committed_anew
    assert len(list(tmp_path.rglob("_retired-*.json"))) == 1


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


def test_a_lost_answer_does_not_start_a_second_job(tmp_path: Path) -> None:
    bench = DriverBench(tmp_path)
    bench.states("running", "running", "running", "commit")
    answers = iter(["lost after"])
    bench.compute.on_submit = lambda: next(answers, "yes")
    outcomes = bench.run()
    assert [type(o) for o in outcomes] == [Committed]
    assert bench.compute.submitted[bench.jobs[0].name] == 1
    assert bench.told.count("does not answer") == 1
    assert bench.told.count("answers again") == 1


def test_live_jobs_are_attached_to(tmp_path: Path) -> None:
    bench = DriverBench(tmp_path, 3)
    bench.compute.start(bench.jobs[1].name, JobState.RUNNING)
    bench.states("running", "commit", "succeeded")
    outcomes = bench.run()
    assert len(outcomes) == 3
    assert bench.compute.submitted == {bench.jobs[0].name: 1, bench.jobs[2].name: 1}
    assert "attached to 1 jobs" in bench.told


def test_a_backend_that_ends_with_the_driver_has_nothing_to_attach_to(tmp_path: Path) -> None:
    bench = DriverBench(tmp_path, 2, outlives=False)
    bench.states("commit")
    bench.run()
    assert bench.compute.calls["find"] == 0


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


def test_an_outage_is_noted_once_and_asked_through_with_growing_pauses(tmp_path: Path) -> None:
    bench = DriverBench(tmp_path)
    bench.states("running")
    polls = iter([True] + [False] * 12)
    bench.compute.on_ask = lambda what: next(polls, True) if what == "poll" else True

    def tell(text: str, *, warning: bool = False) -> None:
        bench.tell(text, warning=warning)
        if "answers again" in text:
            bench.states("commit")

    outcomes = list(bench.driver(tell=tell).run())
    assert [type(o) for o in outcomes] == [Committed]
    assert bench.told.count("does not answer") == 1
    assert max(bench.clock.sleeps) == 60.0
    assert bench.compute.calls["submit"] == 1


def test_launching_may_be_away_while_polling_works(tmp_path: Path) -> None:
    bench = DriverBench(tmp_path, 2, slots=2)
    bench.states(*["running"] * 20, "commit")
    answers = iter(["yes"] + ["lost before"] * 4)
    bench.compute.on_submit = lambda: next(answers, "yes")
    outcomes = bench.run()
    assert len(outcomes) == 2
    assert bench.told.count("does not answer") == 1
    assert bench.compute.calls["submit"] == 6
    assert set(bench.clock.sleeps) == {1.0}, "polling waits for launching"


def test_a_manifest_made_during_a_poll_outage_is_seen(tmp_path: Path) -> None:
    bench = DriverBench(tmp_path)
    bench.states("running", "commit")
    polls = iter([True] + [False] * 3)
    bench.compute.on_ask = lambda what: next(polls, True) if what == "poll" else True
    (outcome,) = bench.run()
    assert isinstance(outcome, Committed)
    assert bench.compute.calls["poll"] == 2


# -- a lake that does not answer ---------------------------------------------------------------------


def lake_is_away(bench: DriverBench, path: str, at: int, until: int) -> None:
    """From one sleep of the driver to another; nothing else of the bench notices."""
    sleep = bench.clock.sleep

    def sleeping(seconds: float) -> None:
        sleep(seconds)
        bench.drivers_lake.store.away = path if at <= len(bench.clock.sleeps) < until else None

    bench.clock.sleep = sleeping  # type: ignore[method-assign]
    bench.drivers_lake.store.away = path if at == 0 else None


@pytest.mark.parametrize("path", ["", "embedding_shards/", "jobs/"])
@pytest.mark.parametrize("at", [0, 1, 2, 3])
def test_a_lake_outage_is_noted_and_ridden_out(tmp_path: Path, path: str, at: int) -> None:
    bench = DriverBench(tmp_path, 4, slots=1)
    commit(bench.lake, bench.jobs[0])
    bench.states("running", "commit")
    lake_is_away(bench, path, at, until=at + 4)
    outcomes = bench.run(max_attempts=1)
    assert [type(o) for o in outcomes] == [Committed] * 4
    assert bench.compute.submitted == {p.name: 1 for p in bench.jobs[1:]}
    away = [line for line in bench.told.splitlines() if "the lake does not answer" in line]
    assert len(away) == bench.told.count("the lake answers again") <= 2, "once for each thing that is asked of it"
    assert bool(away) == bool(bench.drivers_lake.store.asked)


@pytest.mark.parametrize("last", ["failed", "cancelled", "refused", "succeeded"])
def test_what_a_lake_that_is_away_does_not_say_is_not_taken_for_a_no(tmp_path: Path, last: str) -> None:
    bench = DriverBench(tmp_path)
    bench.states("running", f"{last}+commit")
    lake_is_away(bench, "", at=1, until=9)
    outcomes = bench.run(max_attempts=2)
    assert [(type(o), o.attempts) for o in outcomes] == [(Committed, 1)]
    assert bench.compute.calls["poll"] == len(bench.clock.sleeps), "the backend is polled meanwhile"
    assert bench.drivers_lake.store.asked < 6, "with growing pauses"


def test_a_damaged_shard_waits_for_the_lake_to_be_retired(tmp_path: Path) -> None:
    bench = DriverBench(tmp_path)
    commit(bench.lake, bench.jobs[0], digest="another")
    bench.states("commit")
    lake_is_away(bench, "_retired", at=0, until=3)
    (outcome,) = bench.run()
    assert isinstance(outcome, Committed)
    assert (outcome.adopted, outcome.manifest.input.digest) == (False, "in0")
    assert len(list(tmp_path.rglob("_retired-*.json"))) == 1


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


def test_a_budget_that_cannot_be_read_delays_launches_only(tmp_path: Path) -> None:
    bench = DriverBench(tmp_path, 2)
    bench.states("commit")
    answers = iter([StoreUnavailable("away"), StoreUnavailable("away"), None])

    class Costs:
        def refusal(self, *_: Any) -> None:
            if (error := next(answers, None)) is not None:
                raise error

        def running(self, *_: Any) -> None:
            pass

        def ended(self, *_: Any, **__: Any) -> None:
            pass

    outcomes = bench.run(budget=Costs())
    assert [type(o) for o in outcomes] == [Committed] * 2
    assert bench.told.count("the lake does not answer") == 1


def test_a_shard_of_another_input_is_retired_and_made_anew(tmp_path: Path) -> None:
    bench = DriverBench(tmp_path)
    commit(bench.lake, bench.jobs[0], digest="another")
    bench.states("commit")
    outcomes = bench.run()
    (outcome,) = outcomes
    assert isinstance(outcome, Committed)
    assert (outcome.adopted, outcome.manifest.input.digest) == (False, "in0")
    assert "was made from input another" in bench.told
    assert list(tmp_path.rglob("_retired-*.json"))


def test_a_manifest_that_is_garbage_is_retired_and_made_anew(tmp_path: Path) -> None:
    bench = DriverBench(tmp_path)
    bench.lake.store.create(bench.jobs[0].shard.manifest_path, b"garbage")
    bench.states("commit")
    outcomes = bench.run()
    assert [(type(o), o.attempts) for o in outcomes] == [(Committed, 1)]


def test_a_job_that_writes_a_garbage_manifest_fails(tmp_path: Path) -> None:
    bench = DriverBench(tmp_path)

    def advance(handle: JobHandle, status: JobStatus) -> None:
        bench.lake.store.create(bench.jobs[0].shard.manifest_path, b"garbage")
        status.state = JobState.SUCCEEDED

    bench.compute.advance = advance
    (outcome,) = bench.run()
    assert isinstance(outcome, Failed)
    assert "_manifest.json is not JSON" in outcome.error


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


def changed(made: EmbedJob, update: dict[str, Any]) -> EmbedJob:
    if spec := update.get("spec"):
        update = {**update, "shard": made.shard.model_copy(update={"spec_id": spec.spec_id})}
    return made.model_copy(update=update)


def test_a_live_job_is_attached_to_whatever_changed_that_changes_no_shard(tmp_path: Path) -> None:
    bench = DriverBench(tmp_path)
    (first,) = bench.jobs
    bench.compute.start(first.name, JobState.RUNNING)
    spec = kit.spec(engine={"max_num_seqs": 128}, prompts=Prompts(query="query: "), location=str(tmp_path))
    bench.jobs = [changed(first, {"spec": spec, "checkpoint_rows": 7, "heartbeat_seconds": 1.0})]
    assert bench.jobs[0].path != first.path
    bench.states("running", "commit")
    outcomes = bench.run()
    assert bench.compute.submitted == {} and isinstance(outcomes[0], Committed)


def test_names_say_the_work(tmp_path: Path) -> None:
    lake = Lake(root=str(tmp_path))
    same, other = job_of(lake, 1), job_of(lake, 1, digest="changed")
    assert same.name == job_of(lake, 1).name != other.name
    elsewhere = job_of(Lake(root=str(tmp_path / "other")), 1)
    spec = {"spec": kit.spec(revision="another")}
    assert len({p.name for p in (same, other, elsewhere, changed(same, spec), job_of(lake, 2))}) == 5
    assert re.fullmatch(r"p-d-00001-[0-9a-f]{10}", same.name)
    odd = changed(same, {"shard": same.shard.model_copy(update={"dataset": "odd_name.x"})})
    assert re.fullmatch(r"[a-z0-9-]+", odd.name)
