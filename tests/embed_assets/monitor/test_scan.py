"""What reading costs, what is noticed, and what a hostile lake can do to the reader: nothing."""

import json
import time
from pathlib import Path

import fsspec
import pytest

from embed_assets.estimate.costs import JobCost, write_cost
from embed_assets.monitor.lake import ReadOnlyLake
from embed_assets.monitor.scan import FULL_SECONDS, Scanner
from embed_assets.monitor.states import State
from embed_assets.monitor.view import run_name
from embed_assets.monitor.watch import Watch
from embed_worker.lake.errors import StoreUnavailable
from tests.kits.clock import Clock
from tests.kits.monitor_lake import SPEC, FakeLake, iso, large
from tests.kits.pipelines import Prepared


@pytest.fixture
def clock() -> Clock:
    return Clock(time.time())


def scanner(lake: Path, clock: Clock) -> Scanner:
    return Scanner(ReadOnlyLake(str(lake)), clock)


def test_a_thousand_heartbeats_cost_one_listing_and_the_changed_ones(lake: Path, clock: Clock) -> None:
    made = FakeLake(lake, 1000)
    for stride in range(1000):
        made.beat(stride, clock.now)
    scan = scanner(lake, clock)
    assert len(scan.look().runs[0].beats) == 1000
    scan.lake.requests.clear()
    clock.now += 5
    for stride in (3, 500, 999):
        made.beat(stride, clock.now, rows_done=400)
    found = scan.look()
    assert scan.lake.requests == {"list": 1, "read": 3}
    assert found.runs[0].beats[500][0].beat.rows_done == 400
    scan.lake.requests.clear()
    clock.now += 5
    scan.look()
    assert scan.lake.requests == {"list": 1}


def test_a_manifest_is_read_once_and_at_the_moment_its_worker_says_so(lake: Path, clock: Clock) -> None:
    made = FakeLake(lake, 3)
    made.beat(1, clock.now)
    scan = scanner(lake, clock)
    assert scan.look().runs[0].shards == {}
    made.shard(1, clock.now)
    made.beat(1, clock.now, phase="committed", rows_done=1000)
    clock.now += 5
    assert scan.look().runs[0].shards[1].rows == 1000
    scan.lake.requests.clear()
    clock.now += 5
    scan.look()
    assert scan.lake.requests == {"list": 1}


def test_a_full_look_finds_what_has_no_heartbeat_and_misses_what_is_gone(lake: Path, clock: Clock) -> None:
    made = FakeLake(lake, 3)
    scan = scanner(lake, clock)
    [run] = scan.look().runs
    assert run.current and run.shards == {} and run.strides.rows == (1000, 1000, 1000)
    for stride in range(3):
        made.shard(stride, clock.now)
    clock.now += FULL_SECONDS
    assert sorted(scan.look().runs[0].shards) == [0, 1, 2]
    (lake / made.shard_path(0)).unlink()  # retired: its folder stays
    (lake / made.shard_path(2)).unlink()
    (lake / made.shard_path(2)).parent.rmdir()
    clock.now += FULL_SECONDS
    assert sorted(scan.look().runs[0].shards) == [1]


def test_a_partition_that_is_made_anew_counts_as_such_at_the_next_full_look(lake: Path, clock: Clock) -> None:
    made = FakeLake(lake, 60)
    for stride in range(60):
        made.shard(stride, clock.now)
    scan = scanner(lake, clock)
    scan.look()
    (lake / made.shard_path(59)).unlink()
    made.beat(59, clock.now, "again")
    clock.now += FULL_SECONDS
    assert 59 not in scan.look().runs[0].shards


def test_only_the_latest_snapshot_and_spec_are_current(lake: Path, clock: Clock) -> None:
    made = FakeLake(lake, 2)
    made.shard(0, clock.now - 1000)
    made.beat(0, clock.now, shard=made.id(0, "newer-spec").model_dump(), attempt="n")
    found = scanner(lake, clock).look()
    assert {run.key.spec_id: run.current for run in found.runs} == {
        "newer-spec": True, SPEC: False,
    }  # fmt: skip
    watch = Watch(ReadOnlyLake(str(lake)), clock=clock)
    watch.look()
    old = next(run_name(run.key) for run in found.runs if not run.current)
    assert json.loads(watch.answer("partitions", old).body)["partitions"][0]["state"] == "committed"
    assert json.loads(watch.answer("partitions").body)["partitions"][0]["state"] == "running"
    with pytest.raises(KeyError):
        watch.answer("partitions", "no/such/run")


def test_an_empty_or_missing_lake_is_no_error(tmp_path: Path, clock: Clock) -> None:
    found = scanner(tmp_path / "nothing", clock).look()
    assert found.runs == [] and not (tmp_path / "nothing").exists()
    with pytest.raises(StoreUnavailable, match="nope"):
        ReadOnlyLake("nope://x")


def test_any_fsspec_url_will_do(lake: Path, clock: Clock) -> None:
    made = FakeLake(lake, 4)
    made.beat(0, clock.now)
    made.shard(1, clock.now)
    memory = fsspec.filesystem("memory")
    memory.put(str(lake), "/monitor-lake", recursive=True)
    try:
        [run] = Scanner(ReadOnlyLake("memory://monitor-lake"), clock).look().runs
        assert sorted(run.beats) == [0] and sorted(run.shards) == [1]
    finally:
        memory.rm("/monitor-lake", recursive=True)


def test_it_reads_what_the_real_worker_writes_and_writes_nothing(lake: Path, source: Path, clock: Clock) -> None:
    made = Prepared(lake, str(source))
    made.embed(0)
    before = {path: path.stat().st_mtime_ns for path in lake.rglob("*")}
    watch = Watch(ReadOnlyLake(str(lake)), clock=clock)
    watch.look()
    progress = watch.progress
    assert (progress.rows, progress.rows_done) == (20, made.expected(0).rows)
    assert progress.counts[State.COMMITTED] == 1 and progress.counts[State.WAITING] == 2
    assert progress.spend.usd is None and progress.spend.unknown_jobs == 1
    assert {path: path.stat().st_mtime_ns for path in lake.rglob("*")} == before


def test_costs_are_read_as_the_driver_writes_them(
    lake: Path, source: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SKYPILOT_MANAGED_JOB_ID", "7")
    made = Prepared(lake, str(source))
    made.embed(0)
    spec_id = made.pipeline.embedding.spec_id
    cost = JobCost(pipeline="p", dataset="d", partition="d-00000", spec_id=spec_id, job="7", rows=7, committed=True,
                   usd=0.25, on_demand_usd=0.75, spot=True, dollars_per_hour=0.4)  # fmt: skip
    write_cost(made.store, cost)
    watch = Watch(ReadOnlyLake(str(lake)), clock=clock)
    watch.look()
    assert (watch.progress.spend.usd, watch.progress.spend.on_demand_usd) == (0.25, 0.75)
    for path in (lake / "costs/p").iterdir():
        path.unlink()
    clock.now += FULL_SECONDS
    watch.look()
    assert (watch.progress.spend.usd, watch.progress.spend.unknown_jobs) == (None, 1), "its file is gone"


def test_a_lake_that_fails_is_told_and_the_last_answers_stay(lake: Path, clock: Clock) -> None:
    FakeLake(lake, 2)
    watch = Watch(ReadOnlyLake(str(lake)), clock=clock)
    watch.look()

    def fail() -> None:
        raise PermissionError("key AKIA1234 may not list")

    watch._scanner.look = fail  # type: ignore[method-assign, assignment]
    watch.interval = 0.01
    watch.start()
    deadline = time.monotonic() + 30
    while watch.progress.error is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    watch.stop()
    assert watch.progress.error == "PermissionError" and watch.progress.partitions == 2
    assert b"AKIA" not in watch.answer("progress").body


# -- hostile contents --------------------------------------------------------------------------------------


def test_damaged_files_and_strangers_are_passed_over(lake: Path, clock: Clock) -> None:
    made = FakeLake(lake, 3)
    made.beat(0, clock.now)
    made.put("progress/books-00001/a1.json", "{")
    made.put("progress/books-00002/huge.json", json.dumps({"x": "y" * 100_000}))
    made.put("progress/books-00002/renamed.json", (lake / "progress/books-00000/a0.json").read_text())
    made.put("progress/books-00002/_given-up-x.json", "[]")
    made.put("costs/p/x.json", "null")
    made.put("costs/p/y.json", json.dumps({"usd": -5}))
    made.put("stride_partitions/books/not-a-cut/_manifest.json", {})
    made.put("stride_partitions/Up..per/x/_manifest.json", {})
    [run] = scanner(lake, clock).look().runs
    assert sorted(run.beats) == [0] and run.shards == {}


def test_numbers_out_of_this_world_are_not_taken(lake: Path, clock: Clock) -> None:
    made = FakeLake(lake, 2)
    odd = {"attempts": [{"attempt": "b", "region": {"x": 1}, "price_per_hour": "cheap"}]}
    made.shard(0, clock.now, tokens=10**19, created_at="then", hardware={"gpus": 5}, **odd)
    shard = scanner(lake, clock).look().runs[0].shards[0]
    assert (shard.rows, shard.tokens, shard.seconds, shard.created) == (1000, 0, 600.0, None)
    assert (shard.attempts, shard.region, shard.price_per_hour, shard.accelerator) == (("b",), None, None, "CPU")


def test_no_clock_of_a_node_counts(lake: Path, clock: Clock) -> None:
    made = FakeLake(lake, 2)
    made.beat(0, clock.now, at=iso(clock.now - 7200))  # two hours behind, and at work
    made.beat(1, clock.now, at=iso(clock.now + 7200), age=90)  # two hours ahead, and dead
    scan = scanner(lake, clock)
    assert [scan.look().runs[0].beats[n][0].age(clock.now) for n in (0, 1)] == pytest.approx([1, 90], abs=0.1)
    clock.now += 5
    made.beat(0, clock.now, at=iso(clock.now - 7200), rows_done=400)
    assert [scan.look().runs[0].beats[n][0].age(clock.now) for n in (0, 1)] == pytest.approx([0, 95], abs=0.1)


@pytest.mark.slow
def test_a_large_lake_shows_every_state(lake: Path, clock: Clock) -> None:
    large(lake, clock.now)
    watch = Watch(ReadOnlyLake(str(lake)), clock=clock)
    watch.look()
    counts = watch.progress.counts
    assert counts == {
        State.COMMITTED: 420, State.RUNNING: 340, State.RECOVERING: 15, State.STALE: 5, State.FAILED: 3,
        State.WAITING: 217, State.DAMAGED: 0,
    }  # fmt: skip
    assert watch.progress.stragglers == 1 and watch.progress.silent_workers == 5
    assert len(watch.progress.regions) == 5
    samples = json.loads(watch.answer("history").body)["samples"]
    assert len(samples) > 100 and min(sample["rows_per_second"] for sample in samples[5:]) > 0


def test_a_secret_in_the_lake_s_address_is_refused_without_repeating_it() -> None:
    with pytest.raises(StoreUnavailable) as caught:
        ReadOnlyLake("s3://user:hunter2@bucket/lake")
    assert "password" in str(caught.value) and "hunter2" not in str(caught.value)
