"""The model: states, rates, stragglers, ETA and spend, from facts alone."""

import time
from typing import Any

import pytest

from embed_assets.estimate.costs import JobCost
from embed_assets.monitor.eta import MAX_SPREAD, MIN_SPREAD, UNSURE, eta, spread_of
from embed_assets.monitor.facts import RunKey, Shard, Strides
from embed_assets.monitor.history import LIMIT, History, Stretch, from_the_past
from embed_assets.monitor.models import Sample
from embed_assets.monitor.rates import Rates
from embed_assets.monitor.scan import Found, Run
from embed_assets.monitor.states import Manifest, State, standing, state_of
from embed_assets.monitor.totals import progress_of
from embed_assets.monitor.view import cost_so_far, view_of
from embed_worker.lake.heartbeats import GivenUp, Heartbeat, LastWord, Seen
from embed_worker.lake.layout import Partitioning, ShardId
from tests.kits.monitor_lake import INGEST_ID, SNAPSHOT, SPEC, digest, iso

NOW = float(int(time.time()))
CUT = Partitioning("stride", 8)


def seen(age: float = 1.0, attempt: str = "a", stride: int = 0, **more: Any) -> Seen:
    value = {
        "shard": ShardId.of("books", SPEC, CUT, stride, digest(stride)), "attempt": attempt, "rows": 1000, "rows_done": 300, "tokens_done": 27000, "rows_own": 300,
        "tokens_own": 27000, "phase": "embedding", "at": iso(NOW - age), "seconds": 40.0, "phase_seconds": 30.0,
        "hardware": {"gpus": ["NVIDIA L4"]},
    }  # fmt: skip
    return Seen(Heartbeat.model_validate(value | more), NOW - age)


def shard(**changes: Any) -> Shard:
    values = {"rows": 1000, "tokens": 90000, "created_at": iso(NOW), "seconds": 50.0, "attempts": ("a",), "starts": 1}
    return Shard.model_validate(values | changes)


def word(age: float) -> LastWord:
    return LastWord(GivenUp(shard=ShardId.of("books", SPEC, CUT, 0, digest(0)), error="enough"), NOW - age)


SHARD = shard(accelerator="NVIDIA L4")
PREEMPTED = {"phase": "stopped", "ending": "preempted"}
FAILED = {"phase": "stopped", "ending": "failed", "error": "RuntimeError"}
BAD_JOB = {"phase": "stopped", "ending": "bad_job"}


@pytest.mark.parametrize(
    ("expected", "beats"),
    [
        (State.WAITING, []),
        (State.RUNNING, [seen()]),
        (State.RUNNING, [seen(phase="loading model")]),  # the first start is no recovery
        (State.RUNNING, [seen(59)]),
        (State.STALE, [seen(61)]),
        (State.RUNNING, [seen(61, every_seconds=30)]),
        (State.STALE, [seen(61, phase="starting")]),
        (State.RECOVERING, [seen(1, **PREEMPTED)]),  # however young its last word is, nobody works on it
        (State.STALE, [seen(1000, **PREEMPTED)]),  # no machine came
        (State.RECOVERING, [seen(100, **FAILED)]),
        (State.FAILED, [seen(1000, **FAILED)]),
        (State.FAILED, [seen(1, **BAD_JOB)]),
        (State.RECOVERING, [seen(100, **BAD_JOB), seen(1, "b", phase="loading model")]),
        (State.RECOVERING, [seen(400), seen(1, "b", phase="starting")]),  # killed, and back
        (State.RUNNING, [seen(400), seen(1, "b")]),
        (State.RUNNING, [seen(lane="1 of 2"), seen(1, "b", lane="2 of 2", phase="loading model")]),
        (State.RUNNING, [seen(phase="starting", lane="1 of 2"), seen(1, "b", lane="2 of 2", phase="starting")]),
        (State.WAITING, [seen(phase="committed")]),  # and its manifest was taken away
        (State.WAITING, [seen(400, **PREEMPTED), seen(1, "b", phase="committed")]),
    ],
)
def test_states(expected: State, beats: list[Seen]) -> None:
    assert state_of(Manifest.NONE, beats, NOW) is expected
    assert state_of(Manifest.SOUND, beats, NOW) is State.COMMITTED, "a zombie says what it likes"
    assert state_of(Manifest.DAMAGED, beats, NOW) is State.DAMAGED


@pytest.mark.parametrize(
    ("expected", "beats", "submitted"),
    [
        (State.FAILED, [], 100),  # it never got a machine
        (State.FAILED, [seen(60, **FAILED)], 100),  # at once, not after 15 minutes
        (State.FAILED, [seen(200, **PREEMPTED)], 100),
        (State.RECOVERING, [seen(60, **FAILED)], 10),  # another run has launched it anew
        (State.WAITING, [], 10),
        (State.RUNNING, [seen(5, phase="loading model")], 100),
        (State.RECOVERING, [seen(60, **FAILED), seen(5, "b", phase="loading model")], 100),
    ],
)
def test_what_a_driver_has_given_up_has_failed_until_it_begins_anew(
    expected: State, beats: list[Seen], submitted: float
) -> None:
    assert state_of(Manifest.NONE, beats, NOW, standing(word(50), beats, NOW - submitted)) is expected


def found(
    beats: dict[int, list[Seen]], shards: dict[int, Shard] | None = None, costs: list[JobCost] | None = None
) -> Found:
    name = f"{INGEST_ID}-{CUT.name}"
    digests = tuple(map(digest, range(8)))
    strides = Strides(dataset="books", cut=name, snapshot=SNAPSHOT, created_at="", rows=(1000,) * 8, digests=digests)
    run = Run(RunKey("books", SPEC, name), strides, True, shards or {}, beats=beats)
    return Found(NOW, 0.0, [run], costs or [], {}, [])


def progress(look: Found, rates: Rates | None = None) -> Any:
    rates = rates or Rates()
    return progress_of(look, view_of(look, rates, NOW), [], revision=1, lake="x", interval_seconds=5)


def test_rates_come_from_the_workers_own_clock_and_from_its_own_rows() -> None:
    rates = Rates()
    resumed = seen(rows_done=800, rows_own=300).beat
    rate = rates.of(resumed)
    assert rate is not None and rate.rows == 10 and rate.tokens == 900
    assert rates.of(seen(rows_done=800, rows_own=0, tokens_own=0).beat) is None
    beat = None
    for step in range(30):  # it has become twice as fast
        beat = seen(rows_own=300 + 100 * step, tokens_own=0, seconds=40.0 + 5 * step).beat
        rates.observe(beat)
    assert beat is not None
    rate = rates.of(beat)
    assert rate is not None and rate.rows == 20
    rates.forget(set())
    assert rates.of(seen().beat) is not None


def test_rows_of_the_engines_of_one_node_add_up() -> None:
    beats = [
        seen(attempt="a", lane="1 of 2", rows_done=500, rows_own=300),
        seen(attempt="b", lane="2 of 2", rows_done=450, rows_own=250),
    ]
    view = view_of(found({0: beats}), Rates(), NOW)
    [partition] = [p for ps in view.partitions.values() for p in ps if p.stride == 0]
    assert (partition.rows_done, partition.attempts, partition.recoveries) == (750, 1, 0)
    assert partition.rows_per_second == pytest.approx(10 + 250 / 30)


def test_stragglers_are_held_against_their_like() -> None:
    beats = {n: [seen(stride=n, attempt=f"a{n}")] for n in range(5)}
    beats[4] = [seen(stride=4, attempt="a4", rows_own=100)]
    beats[5] = [seen(stride=5, attempt="cpu", rows_own=10, hardware={"gpus": [], "cores": 2})]
    look = found(beats)
    view = view_of(look, Rates(), NOW)
    assert [w.attempt for ws in view.workers.values() for w in ws if w.straggler] == ["a4"]
    few = view_of(found({n: beats[n] for n in (0, 1, 4)}), Rates(), NOW)
    assert not any(w.straggler for ws in few.workers.values() for w in ws)


def test_a_silent_worker_is_shown_until_another_takes_its_place() -> None:
    alone = progress(found({0: [seen(300)]}))
    assert (alone.workers, alone.silent_workers, alone.rows_per_second, alone.eta_seconds) == (0, 1, None, None)
    replaced = progress(found({0: [seen(300), seen(1, "b")]}))
    assert (replaced.workers, replaced.silent_workers, replaced.recoveries) == (1, 0, 1)


# -- ETA -----------------------------------------------------------------------------------------------------


def test_eta_deals_the_partitions_out() -> None:
    assert eta([], [], 0.1) == eta([], [], 0.5) and eta([], [], 0.1).likely == 0  # type: ignore[union-attr]
    assert eta([], [100], 0.1) is None
    assert eta([(100, 0.0)], [], 0.1) is None
    one = eta([(100, 10)], [], 0.25)
    assert one is not None and (one.likely, one.low, one.high) == (10, 8, pytest.approx(13.33, abs=0.01))
    two = eta([(100, 10), (50, 10)], [100], 0.1)  # the second is free after 5 s and takes 10 more
    assert two is not None and two.likely == 15
    tail = eta([(100, 10), (100, 10), (100, 1)], [], 0.1)  # the last one is not helped by the others
    assert tail is not None and tail.likely == 100


def test_the_range_is_wide_until_the_speed_is_known() -> None:
    assert spread_of([]) == UNSURE and spread_of([10.0] * 5) == UNSURE
    assert spread_of([10.0] * 50) == MIN_SPREAD
    assert spread_of([1.0, 100.0] * 25) == MAX_SPREAD
    assert spread_of([9.0, 10.0, 11.0] * 20) == pytest.approx(0.1)


# -- spend ---------------------------------------------------------------------------------------------------


def cost(
    job: str, usd: float | None, on_demand: float | None = None, partition: str = "books-00000", **more: Any
) -> JobCost:
    return JobCost(
        pipeline="p", dataset="books", partition=partition, spec_id=SPEC, job=job, rows=1000, committed=True, usd=usd,
        on_demand_usd=on_demand, **more,
    )  # fmt: skip


def test_unknown_is_never_nothing() -> None:
    spend = progress(found({0: [seen()]}, {1: SHARD})).spend
    assert spend.usd is None and spend.projected_usd is None and spend.usd_per_hour is None
    assert (spend.known_jobs, spend.unknown_jobs) == (0, 2)


@pytest.mark.parametrize(
    ("usd", "manifest", "beats", "costs"),
    [
        (None, None, [], []),
        (0.5, None, [seen(price_per_hour=0.5, seconds=3600.0)], []),
        (1.0, None, [seen(400, price_per_hour=0.5, seconds=3600.0), seen(1, "b", price_per_hour=0.5, seconds=3600.0)], []),
        (None, None, [seen(400, price_per_hour=0.5), seen(1, "b")], []),
        (0.5, None, [seen(lane="1 of 2", price_per_hour=0.5, seconds=3600.0), seen(1, "b", lane="2 of 2", price_per_hour=0.5)], []),
        (0.25, SHARD, [], [cost("7", 0.25)]),
        (0.75, SHARD, [], [cost("7", 0.25), cost("8", 0.5)]),
        (None, SHARD, [], [cost("7", 0.25), cost("8", None)]),
        (0.25, SHARD, [seen(5, skypilot_job_id=7, price_per_hour=9.0)], [cost("7", 0.25)]),  # told once, not twice
        (None, SHARD, [], []),
        (None, shard(seconds=3600.0, attempts=("a", "b"), price_per_hour=0.5), [], []),  # an attempt that nobody saw
        (0.5, shard(seconds=3600.0, price_per_hour=0.5), [], []),
    ],
)  # fmt: skip
def test_cost_of_a_partition(
    usd: float | None, manifest: Shard | None, beats: list[Seen], costs: list[JobCost]
) -> None:
    assert cost_so_far(manifest, beats, costs) == (None if usd is None else pytest.approx(usd))


def test_spend_is_projected_and_compared_only_when_all_is_known() -> None:
    shards = {0: SHARD, 1: SHARD}
    all_known = [cost("1", 0.25, 0.75), cost("2", 0.25, 0.75, "books-00001")]
    spend = progress(found({}, shards, all_known)).spend
    assert (spend.usd, spend.on_demand_usd, spend.unknown_jobs) == (0.5, 1.5, 0)
    assert spend.projected_usd == pytest.approx(2.0)  # 2,000 of 8,000 rows for half a dollar
    some = progress(found({}, shards, all_known[:1])).spend
    assert (some.usd, some.on_demand_usd, some.projected_usd, some.unknown_jobs) == (0.25, None, None, 1)


def test_a_running_jobs_note_tells_what_its_worker_does_not_know() -> None:
    note = cost("7", 0.1, 0.3, spot=True, dollars_per_hour=0.4)
    look = found({0: [seen(skypilot_job_id=7)], 1: [seen(1, "b", spot=False, price_per_hour=2.0)]}, costs=[note])
    view = view_of(look, Rates(), NOW)
    told, own = (worker for workers in view.workers.values() for worker in workers)
    assert (told.spot, told.price_per_hour) == (True, 0.4)
    assert (own.spot, own.price_per_hour) == (False, 2.0)
    assert progress(look).spend.usd_per_hour == pytest.approx(2.4)


# -- history -------------------------------------------------------------------------------------------------


def test_the_past_is_told_by_what_is_in_the_lake() -> None:
    samples = from_the_past([Stretch(NOW - 1000, NOW - 500, 500, 5000), Stretch(NOW - 500, NOW, 1000, 10000)], NOW)
    assert samples[-1].rows_done == 1500 and samples[-1].tokens_done == 15000
    assert samples[10].rows_per_second == pytest.approx(1) and samples[-10].rows_per_second == pytest.approx(2)
    assert from_the_past([], NOW) == []


def test_the_history_does_not_grow_for_ever() -> None:
    history = History()
    for n in range(5 * LIMIT):
        history.add(Sample(at=n, rows_done=n, tokens_done=0, rows_per_second=0, tokens_per_second=0, workers=1))
    times = [sample.at for sample in history.samples]
    assert len(times) <= LIMIT and times == sorted(times) and times[-1] == 5 * LIMIT - 1
