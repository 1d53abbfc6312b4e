"""What reading costs, what is noticed, and what a hostile lake can do to the reader: nothing."""

import json
import time
from pathlib import Path
from typing import Any

import fsspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embed_assets.estimate.costs import JobCost, write_cost
from embed_assets.monitor.facts import Cost, beat_of, cost_of, run_of, shard_of, strides_of
from embed_assets.monitor.lake import ReadOnlyLake
from embed_assets.monitor.models import State
from embed_assets.monitor.scan import CENSUS_SECONDS, Scanner
from embed_assets.monitor.state import run_name
from embed_assets.monitor.watch import Watch
from embed_worker.lake.errors import StoreUnavailable
from tests.kits.clock import Clock
from tests.kits.monitor_lake import FakeLake, iso, large
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


def test_a_census_finds_what_has_no_heartbeat_and_misses_what_is_gone(lake: Path, clock: Clock) -> None:
    made = FakeLake(lake, 3)
    scan = scanner(lake, clock)
    [run] = scan.look().runs
    assert run.current and run.shards == {} and run.strides.rows == (1000, 1000, 1000)
    for stride in range(3):
        made.shard(stride, clock.now)
    clock.now += CENSUS_SECONDS
    assert sorted(scan.look().runs[0].shards) == [0, 1, 2]
    (lake / made.shard_path(0)).unlink()  # retired: its folder stays
    (lake / made.shard_path(2)).unlink()
    (lake / made.shard_path(2)).parent.rmdir()
    clock.now += CENSUS_SECONDS
    assert sorted(scan.look().runs[0].shards) == [1]


def test_a_partition_that_is_made_anew_counts_as_such_at_the_next_census(lake: Path, clock: Clock) -> None:
    made = FakeLake(lake, 60)
    for stride in range(60):
        made.shard(stride, clock.now)
    scan = scanner(lake, clock)
    scan.look()
    (lake / made.shard_path(59)).unlink()
    made.beat(59, clock.now, "again")
    clock.now += CENSUS_SECONDS
    assert 59 not in scan.look().runs[0].shards


def test_only_the_latest_snapshot_and_spec_are_current(lake: Path, clock: Clock) -> None:
    made = FakeLake(lake, 2)
    made.shard(0, clock.now - 1000)
    made.beat(0, clock.now, spec_id="newer-spec", attempt="n")
    found = scanner(lake, clock).look()
    assert {run.key.spec_id: run.current for run in found.runs} == {
        "newer-spec": True, "gte-qwen2-7b-instruct-abcdef012345": False,
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
    assert (progress.rows, progress.rows_done) == (20, len(made.expected(0)))
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
    assert cost_of(cost.model_dump()) == Cost("d", spec_id, "d-00000", "7", 0.25, 0.75, True, 0.4)


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

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
KEYS = ("dataset", "spec_id", "partitioning", "partition", "attempt", "rows", "rows_done", "seconds", "at", "phase",
        "price_per_hour", "hardware", "attempts", "strides", "created_at", "usd", "job")  # fmt: skip


@given(st.dictionaries(st.sampled_from(KEYS), JSON) | JSON)
def test_no_json_makes_a_reader_raise(value: Any) -> None:
    for read in (beat_of, shard_of, cost_of):
        read(value)
    strides_of("d", "x", value)


@pytest.mark.parametrize(
    "change",
    [
        {"dataset": "../../etc"},
        {"dataset": "Books"},
        {"spec_id": "../x"},
        {"spec_id": "a/b"},
        {"spec_id": ".."},
        {"partitioning": "../x"},
        {"partitioning": None},
        {"partition": "books-00001/../../x"},
        {"partition": "books-x"},
        {"partition": "other-00001"},
        {"attempt": None},
    ],
)
def test_a_heartbeat_that_points_elsewhere_is_none(lake: Path, clock: Clock, change: dict[str, Any]) -> None:
    made = FakeLake(lake, 3)
    made.beat(1, clock.now)
    path = lake / "progress" / made.key(1) / "a1.json"
    good = json.loads(path.read_text())
    assert beat_of(good) is not None
    assert beat_of(good | change) is None


def test_damaged_files_and_strangers_are_passed_over(lake: Path, clock: Clock) -> None:
    made = FakeLake(lake, 3)
    made.beat(0, clock.now)
    made.put("progress/books-00001/a1.json", "{")
    made.put("progress/books-00002/huge.json", json.dumps({"x": "y" * 100_000}))
    made.put("progress/books-00002/renamed.json", (lake / "progress/books-00000/a0.json").read_text())
    made.put(made.shard_path(2), "[1]")
    made.put("costs/p/x.json", "null")
    made.put("stride_partitions/books/not-a-cut/_manifest.json", {})
    made.put("stride_partitions/Up..per/x/_manifest.json", {})
    [run] = scanner(lake, clock).look().runs
    assert sorted(run.beats) == [0] and run.shards == {}


def test_numbers_out_of_this_world_are_not_taken() -> None:
    assert run_of("books", "s", "0123-stride-00001") is not None
    shard = shard_of({"rows_in": -5, "tokens": 1e300, "seconds": {"total": float("nan")}, "created_at": "then"})
    assert shard is not None
    assert (shard.rows, shard.tokens, shard.seconds, shard.created) == (0, 0, None, None)


def test_a_wrong_clock_on_a_node_makes_nobody_silent(lake: Path, clock: Clock) -> None:
    made = FakeLake(lake, 1)
    made.beat(0, clock.now, at=iso(clock.now - 7200))  # two hours behind
    scan = scanner(lake, clock)
    assert scan.look().runs[0].beats[0][0].age(clock.now) > 7000
    clock.now += 5
    made.beat(0, clock.now, at=iso(clock.now - 7200))
    assert scan.look().runs[0].beats[0][0].age(clock.now) == 0
    made.beat(0, clock.now, at=iso(clock.now + 7200))  # two hours ahead, then killed
    scan.look()
    clock.now += 90
    assert scan.look().runs[0].beats[0][0].age(clock.now) == 90


def test_a_large_lake_shows_every_state(lake: Path, clock: Clock) -> None:
    large(lake, clock.now)
    watch = Watch(ReadOnlyLake(str(lake)), clock=clock)
    watch.look()
    counts = watch.progress.counts
    assert counts == {
        State.COMMITTED: 420, State.RUNNING: 340, State.RECOVERING: 15, State.STALE: 5, State.FAILED: 3,
        State.WAITING: 217,
    }  # fmt: skip
    assert watch.progress.stragglers == 1 and watch.progress.silent_workers == 5
    assert len(watch.progress.regions) == 5
    samples = json.loads(watch.answer("history").body)["samples"]
    assert len(samples) > 100 and min(sample["rows_per_second"] for sample in samples[5:]) > 0


def test_a_secret_in_the_lake_s_address_is_refused_without_repeating_it() -> None:
    with pytest.raises(StoreUnavailable) as caught:
        ReadOnlyLake("s3://user:hunter2@bucket/lake")
    assert "password" in str(caught.value) and "hunter2" not in str(caught.value)
