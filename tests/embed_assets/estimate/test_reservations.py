"""What is put aside in the lake: by whom it is seen, how long it stays, and what it costs to look."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from embed_assets.drive.outages import Stopped
from embed_assets.estimate.costs import Costs, JobCost, read_costs, write_cost
from embed_assets.estimate.reservations import LEFT_SECONDS, Reservation, Reservations
from embed_worker.lake.errors import StoreUnavailable
from embed_worker.lake.layout import reservations_folder
from embed_worker.lake.store import Store
from resources.compute import JobHandle, JobState, JobStatus
from resources.facts import JobFacts
from resources.lake import Lake
from tests.kits.drive.bench import DriverBench, job_of
from tests.kits.drive.paid import allowed, bench, paid, run
from tests.kits.lake.progress import grow_old

HANDLE = JobHandle("j", "1")


def status(usd: float, state: JobState = JobState.SUCCEEDED, id: int = 1) -> JobStatus:
    return JobStatus(state, facts=JobFacts(id=id, cost_dollars=usd))


def left(made: DriverBench) -> list[str]:
    return made.lake.store.list(reservations_folder("p"))


def some(folder: Path, number: int, usd: float = 0.55) -> list[Reservation]:
    return [Reservation.of(job_of(Lake(str(folder)), stride), usd) for stride in range(number)]


@pytest.mark.parametrize("usd", [0.0, 0.55, 1e-7, 123456.789])
def test_its_name_says_all_that_counts(tmp_path: Path, usd: float) -> None:
    [one] = some(tmp_path, 1, usd)
    assert Reservation.at(one.path) == one and one.usd == pytest.approx(usd, abs=1e-6) and one.usd >= usd
    for path in (
        "reserved/p/x.json",
        f"reserved/p/.{one.path.rpartition('/')[2]}.{'0' * 32}.tmp",
        "reserved/p/a.b.c.json",
    ):
        assert Reservation.at(path) is None


def test_what_a_run_left_that_died_before_its_launch_is_gone_after_a_day(store: Store, tmp_path: Path) -> None:
    fresh, dead, launched, damaged = some(tmp_path, 4)
    of = Reservations(store, "p")
    of.put([fresh, dead, launched, damaged])
    of.mark_launched([launched])
    store.replace(damaged.path, b"{")
    assert len(of.outstanding()) == 4
    for one in (dead, launched, damaged):
        grow_old(store, one.path, LEFT_SECONDS + 60)
    assert {one.id for one in of.outstanding()} == {fresh.id, launched.id, damaged.id}
    assert not store.exists(dead.path)
    grow_old(store, fresh.path, LEFT_SECONDS + 60)
    of.renew([fresh])
    assert fresh.id in {one.id for one in of.outstanding()}


def test_they_work_on_a_bucket(s3_root: str, tmp_path: Path) -> None:
    store = Store(s3_root)
    of, (first, second) = Reservations(store, "p"), some(tmp_path, 2)
    of.put([first, second])
    of.mark_launched([first])
    assert {one.id for one in of.outstanding()} == {first.id, second.id}
    of.withdraw([first])
    assert of.outstanding() == [second]


def test_a_job_that_ends_while_another_run_looks_is_seen_by_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its cost is there before what was put aside goes; who looks, looks in the other order."""
    made = bench(tmp_path, 3)
    (first, second, third), (one, other) = made.jobs, [allowed(made, 2.0, per_row=0.01) for _ in range(2)]
    assert one.reserve([first, second])[0] == [first, second]
    one.launched([first, second])
    real, ends = Costs.read, iter([first, second])

    def read(self: Costs) -> list[JobCost]:
        if self is other._costs and (job := next(ends, None)):
            one.ended(job, HANDLE, status(1.0), committed=True)
        return real(self)

    monkeypatch.setattr(Costs, "read", read)
    assert not other.reserve([third])[0]
    assert not other.reserve([third])[0]
    assert next(ends, None) is None and not left(made)


def test_a_run_that_is_executed_again_goes_on_with_what_the_dead_one_put_aside(tmp_path: Path) -> None:
    made = bench(tmp_path, 3)
    dead = allowed(made, 3.0, per_row=0.01)
    assert dead.reserve(made.jobs)[0] == made.jobs
    for job in made.jobs[:2]:
        made.compute.start(job.name, JobState.RUNNING)
    dead.launched(made.jobs[:2])
    assert len(left(made)) == 3
    paid(made, 0.4)
    committed, failed, _ = run(made, allowed(made, 3.0, per_row=0.01))
    assert len(committed) == 3 and not failed
    assert [cost.usd for cost in read_costs(made.lake.store, "p")] == [0.4] * 3
    assert len(left(made)) == 1, "of the job that was never launched; it goes with time"


def test_what_a_dead_run_launched_counts_until_somebody_has_seen_its_end(tmp_path: Path) -> None:
    made = bench(tmp_path, 2)
    dead, later = (allowed(made, 1.5, per_row=0.01) for _ in range(2))
    dead.reserve(made.jobs[:1])
    dead.launched(made.jobs[:1])
    for name in left(made):
        grow_old(made.lake.store, f"{reservations_folder('p')}/{name}", 30 * LEFT_SECONDS)
    assert not later.reserve(made.jobs[1:])[0]
    later.launched(made.jobs[:1])  # it is found alive
    later.ended(made.jobs[0], HANDLE, status(0.25), committed=True)
    assert later.reserve(made.jobs[1:])[0] == made.jobs[1:] and len(left(made)) == 1


def test_a_job_that_is_found_alive_counts_though_nothing_was_put_aside_for_it(tmp_path: Path) -> None:
    """The pipeline had no budget when it was launched. Its dollars are taken, whatever the limit."""
    made = bench(tmp_path, 2)
    one, other = (allowed(made, 1.5, per_row=0.01) for _ in range(2))
    one.launched(made.jobs[:1])
    assert not other.reserve(made.jobs[1:])[0]


def test_a_cancelled_run_leaves_what_its_jobs_have_cost(tmp_path: Path) -> None:
    made = bench(tmp_path, 3, slots=3)
    made.states("running")
    states = iter([JobState.RUNNING, JobState.RUNNING, JobState.QUEUED])
    real, shown = made.compute.poll, dict[str, JobStatus]()

    def poll(handles: Any) -> dict[JobHandle, JobStatus]:
        real(handles)
        for handle in handles:
            if handle.id not in shown:
                state = next(states)
                unknown = {} if state is JobState.RUNNING else {"cost_dollars": "not seen"}
                cost = 0.2 if state is JobState.RUNNING else None
                facts = JobFacts(id=handle.id, cost_dollars=cost, unknown=unknown)
                shown[handle.id] = JobStatus(state, facts=facts)
        return {handle: shown[handle.id] for handle in handles}

    made.compute.poll = poll  # type: ignore[method-assign]
    turns = iter([True] * 3 + [False])
    driver = made.driver(budget=allowed(made, 3.0, per_row=0.01), alive=lambda: next(turns))
    with pytest.raises(Stopped):
        list(driver.run())
    assert len(left(made)) == 3
    driver.cancel()
    assert not left(made)
    assert [(cost.usd, cost.over) for cost in read_costs(made.lake.store, "p")] == [(0.2, True)] * 2


def test_what_was_not_launched_when_the_run_ended_is_free_again(tmp_path: Path) -> None:
    made = bench(tmp_path, 3, slots=3)
    answers = iter(["yes", "lost before"])
    made.compute.on_submit = lambda: next(answers, "lost before")
    turns = iter([True] * 3 + [False])
    with pytest.raises(Stopped):
        list(made.driver(budget=allowed(made, 3.0, per_row=0.01), alive=lambda: next(turns)).run())
    assert len(left(made)) == 2, "of the job that runs, and of the one that may exist"


@pytest.mark.parametrize("away", ["reserved/", "costs/"])
def test_a_lake_that_goes_away_between_puts_nothing_aside_for_long(tmp_path: Path, away: str) -> None:
    made = bench(tmp_path, 2)
    of = allowed(made, 2.0, per_row=0.01)
    of._store = made.drivers_lake.store
    of._costs, of._reservations = Costs(of._store, "p"), Reservations(of._store, "p")
    real = Reservations.put

    def put(self: Reservations, reservations: Any) -> None:
        real(self, reservations)
        made.drivers_lake.store.away = away

    of._reservations.put = put.__get__(of._reservations)  # type: ignore[method-assign]
    with pytest.raises(StoreUnavailable):
        of.reserve(made.jobs)
    made.drivers_lake.store.away = None
    of._reservations.put = real.__get__(of._reservations)  # type: ignore[method-assign]
    assert of.reserve(made.jobs) == (made.jobs, None)
    assert len(left(made)) == 2


def test_a_cost_that_is_not_kept_leaves_what_was_put_aside_in_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = bench(tmp_path, 2)
    one, other = (allowed(made, 1.5, per_row=0.01) for _ in range(2))
    one.reserve(made.jobs[:1])
    one.launched(made.jobs[:1])

    def full(*_: Any) -> None:
        raise StoreUnavailable("no space left")

    monkeypatch.setattr("embed_assets.estimate.budget.write_cost", full)
    one.ended(made.jobs[0], HANDLE, status(1.0), committed=True)
    assert one.spent.usd == 1.0 and len(left(made)) == 1
    assert not other.reserve(made.jobs[1:])[0]


def test_a_look_reads_what_is_new_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = bench(tmp_path, 40)
    for stride in range(30):
        write_cost(made.lake.store, cost(stride))
    asked: Counter[str] = Counter()
    for name in ("read", "listing"):
        real = getattr(Store, name)

        def counting(store: Store, path: str, *, _name: str = name, _real: Any = real) -> Any:
            asked[f"{_name} {path.partition('/')[0]}"] += 1
            return _real(store, path)

        monkeypatch.setattr(Store, name, counting)
    of = allowed(made, 1000.0, per_row=0.01)
    of.reserve(made.jobs[:10])
    assert asked == {"listing reserved": 2, "listing costs": 2, "read costs": 30}
    write_cost(made.lake.store, cost(31))
    write_cost(made.lake.store, cost(30, over=False))
    asked.clear()
    of.reserve(made.jobs[10:20])
    assert asked["read costs"] == 2 and not asked["read reserved"]
    write_cost(made.lake.store, cost(30))  # it is over now
    asked.clear()
    of.reserve(made.jobs[20:])
    of.reserve(made.jobs[20:])  # what is put aside already is not asked for
    assert asked == {"listing reserved": 2, "listing costs": 2, "read costs": 1}


def cost(stride: int, **changes: Any) -> JobCost:
    return JobCost(
        pipeline="p", dataset="d", partition=f"d-{stride:05d}", spec_id="s", job=str(stride), rows=1, committed=True,
        usd=0.1, on_demand_usd=None, **changes,
    )  # fmt: skip
