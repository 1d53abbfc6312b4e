"""budget_usd: nothing is launched that it does not cover, and the figures are said; costs are kept in the lake."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embed_assets.drive.events import Committed, Failed
from embed_assets.estimate.budget import RunBudget
from embed_assets.estimate.costs import JobCost, read_costs, total_of, write_cost
from embed_worker.lake.errors import StoreUnavailable
from embed_worker.lake.store import Store
from resources.compute import JobHandle, JobState, JobStatus
from resources.facts import JobFacts
from tests.kits.drive.bench import DriverBench, job_of

ROWS = 100


def bench(folder: Path, strides: int, **options: Any) -> DriverBench:
    """A bench whose partitions have rows."""
    made = DriverBench(folder, strides, **options)
    made.jobs = [job_of(made.lake, stride, rows=ROWS) for stride in range(strides)]
    return made


def allowed(made: DriverBench, limit: float | None, per_row: float | None = None, why: str = "the plan") -> RunBudget:
    return RunBudget(made.lake, "p", limit, lambda _: (per_row, why))


def paid(made: DriverBench, dollars: float | None, on_demand: float | None = None, each_poll: float = 0.0) -> None:
    """Each job costs so much at its end, which is its second poll; while it runs, `each_poll`."""
    made.states("running", "succeeded+commit")
    real = made.compute.poll

    def poll(handles: Any) -> dict[JobHandle, JobStatus]:
        found = real(handles)
        for handle, status in found.items():
            cost = dollars if status.state is JobState.SUCCEEDED else each_poll
            unknown = {} if cost is not None else {"cost_dollars": "no price list"}
            status.facts = JobFacts(
                id=handle.id, cost_dollars=cost, on_demand_dollars=on_demand, spot=True, unknown=unknown
            )
        return found

    made.compute.poll = poll  # type: ignore[method-assign]


def run(made: DriverBench, of: RunBudget) -> tuple[list[str], list[Failed], str]:
    outcomes = made.run(budget=of)
    committed = [o.job.shard.key for o in outcomes if isinstance(o, Committed)]
    failed = [o for o in outcomes if isinstance(o, Failed)]
    return committed, failed, made.told


def test_a_run_within_its_budget_is_not_touched(tmp_path: Path) -> None:
    made = bench(tmp_path, 4, slots=2)
    paid(made, 1.0)
    committed, failed, _ = run(made, allowed(made, 4.0, per_row=0.01))
    assert len(committed) == 4 and not failed


def test_a_cost_that_cannot_be_kept_stops_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = bench(tmp_path, 4, slots=2)
    paid(made, 1.0)

    def full(*_: Any) -> None:
        raise StoreUnavailable("no space left")

    monkeypatch.setattr("embed_assets.estimate.budget.write_cost", full)
    of = allowed(made, 4.0, per_row=0.01)
    committed, failed, _ = run(made, of)
    assert len(committed) == 4 and not failed and of.spent.usd == 4.0


def test_costs_that_could_not_be_read_are_read_before_anything_is_launched(tmp_path: Path) -> None:
    made = bench(tmp_path, 1)
    spent = JobCost(
        pipeline="p", dataset="d", partition="d-00007", spec_id="s", job="1", rows=1, committed=True, usd=9.0,
        on_demand_usd=None,
    )  # fmt: skip
    write_cost(made.lake.store, spent)
    of = RunBudget(made.drivers_lake, "p", 5.0, lambda _: (0.001, "the plan"))
    made.drivers_lake.store.away = "costs/"
    with pytest.raises(StoreUnavailable):
        of.refusal(made.jobs, [])
    made.drivers_lake.store.away = None
    refusal = of.refusal(made.jobs, [])
    assert refusal is not None and "$9.00 spent by 1 jobs so far" in refusal[1]


def test_a_projection_above_the_budget_launches_nothing(tmp_path: Path) -> None:
    made = bench(tmp_path, 4)
    committed, failed, notes = run(made, allowed(made, 3.99, per_row=0.01))
    assert not committed and made.compute.calls["submit"] == 0
    assert [f.job.shard.key for f in failed] == [p.shard.key for p in made.jobs]
    assert failed[0].error == "not launched: $4.00 are projected, budget_usd is $3.99"
    assert "$0.00 spent by 0 jobs so far, $0.00 for 0 that run, $4.00 for 4 that wait (the plan)" in notes
    assert "select at most 3 of them" in notes


def test_what_jobs_really_cost_replaces_the_projection_and_stops_the_rest(tmp_path: Path) -> None:
    made = bench(tmp_path, 10, slots=2)
    paid(made, 3.0, on_demand=8.0)
    of = allowed(made, 20.0, per_row=0.01)  # projected: 10 dollars; really: 30
    committed, failed, notes = run(made, of)
    assert 2 <= len(committed) <= 6 and len(committed) + len(failed) == 10
    assert "measured over" in notes and "select at most" in notes
    assert of.spent.usd == 3.0 * len(committed) <= 20.0
    assert (
        of.spent.text()
        == f"${3.0 * len(committed):,.4g} for {len(committed)} jobs; on demand ${8.0 * len(committed):,.4g}, 62% saved"
    )


def test_jobs_that_run_count_with_what_they_are_expected_to_cost(tmp_path: Path) -> None:
    made = bench(tmp_path, 3)
    of = allowed(made, 10.0, per_row=0.01)
    (first, second, third) = made.jobs
    running = [(first, JobStatus(JobState.RUNNING, facts=JobFacts(cost_dollars=7.5)))]
    assert of.refusal([second, third], running) is None  # 7.5 + 2
    running.append((second, JobStatus(JobState.RUNNING, facts=JobFacts(unknown={"cost_dollars": "no price list"}))))
    assert of.refusal([third], running) is None
    running[0][1].facts = JobFacts(cost_dollars=8.5)
    assert of.refusal([third], running) is not None  # 8.5 + 1 + 1


def test_an_unknown_price_launches_nothing_and_says_what_to_state(tmp_path: Path) -> None:
    made = bench(tmp_path, 2)
    committed, failed, notes = run(made, allowed(made, 5.0, None, "aws: no catalog"))
    assert not committed and len(failed) == 2
    assert "what a job costs is not known" in failed[0].error
    assert "(aws: no catalog)" in notes and "plan.usd_per_hour" in notes


def test_without_a_budget_costs_are_only_kept(tmp_path: Path) -> None:
    made = bench(tmp_path, 2)
    paid(made, 0.5, on_demand=1.25)
    committed, failed, _ = run(made, allowed(made, None))
    assert len(committed) == 2 and not failed
    kept = read_costs(made.lake.store, "p")
    assert sorted(cost.partition for cost in kept) == sorted(committed)
    assert {(cost.usd, cost.on_demand_usd, cost.rows, cost.committed) for cost in kept} == {(0.5, 1.25, ROWS, True)}


def test_what_a_job_has_cost_so_far_is_kept_while_it_runs_and_counted_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("embed_assets.estimate.budget.KEEP_SECONDS", 0.0)
    made = bench(tmp_path, 2)
    of, (first, second) = allowed(made, 10.0, per_row=0.01), made.jobs
    facts = JobFacts(id=7, cost_dollars=8.5, dollars_per_hour=0.4, spot=True)
    running = JobStatus(JobState.RUNNING, facts=facts.model_copy(update={"cost_dollars": 3.0}))
    unknown = JobStatus(JobState.RUNNING, facts=JobFacts(id=8, unknown={"cost_dollars": "no price list"}))
    of.running([(first, running), (second, unknown)])
    running.facts = facts
    of.running([(first, running)])
    (kept,) = read_costs(made.lake.store, "p")
    assert (kept.usd, kept.over, kept.committed, kept.dollars_per_hour, kept.spot) == (8.5, False, False, 0.4, True)
    assert of.refusal([second], [(first, running)]) is None  # 8.5 + 1: its note is not counted beside it
    assert allowed(made, 9.0, per_row=0.01).refusal([second], []) is not None  # another run's job: 8.5 + 1
    of.running([(first, JobStatus(JobState.SUCCEEDED, facts=facts.model_copy(update={"cost_dollars": 99.0})))])
    assert [cost.usd for cost in read_costs(made.lake.store, "p")] == [8.5]
    of.ended(first, JobHandle("7", first.name), JobStatus(JobState.SUCCEEDED, facts=facts), committed=True)
    assert [(cost.usd, cost.over) for cost in read_costs(made.lake.store, "p")] == [(8.5, True)]


def test_running_jobs_are_noted_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, written = bench(tmp_path, 1), list[JobCost]()
    monkeypatch.setattr("embed_assets.estimate.budget.write_cost", lambda _, cost: written.append(cost))
    of = allowed(made, None)
    status = JobStatus(JobState.RUNNING, facts=JobFacts(id=7, cost_dollars=3.0))
    for _ in range(5):
        of.running([(made.jobs[0], status)])
    assert len(written) == 1


def test_a_later_run_counts_what_earlier_ones_spent(tmp_path: Path) -> None:
    first = bench(tmp_path, 2)
    paid(first, 2.0)
    assert len(run(first, allowed(first, None))[0]) == 2
    again = bench(tmp_path, 4)
    committed, failed, notes = run(again, allowed(again, 7.9, per_row=0.0001))
    assert len(committed) == 2 and len(failed) == 2  # the two of the first run are adopted
    assert "$4.00 spent by 2 jobs so far" in notes and "measured over 2 committed jobs" in notes


def test_a_failed_attempt_was_paid_for_too(tmp_path: Path) -> None:
    made = bench(tmp_path, 1)
    made.states("failed")
    real = made.compute.poll

    def poll(handles: Any) -> dict[JobHandle, JobStatus]:
        found = real(handles)
        for handle, status in found.items():
            status.facts = JobFacts(id=handle.id, cost_dollars=1.5)
        return found

    made.compute.poll = poll  # type: ignore[method-assign]
    _, failed, _ = run(made, allowed(made, None))
    assert len(failed) == 1
    kept = read_costs(made.lake.store, "p")
    assert len(kept) == 3 and {cost.committed for cost in kept} == {False}
    assert total_of(kept).text() == "$4.5 for 3 jobs; on demand unknown"


def test_jobs_on_this_machine_have_no_cost_at_all(tmp_path: Path) -> None:
    made = bench(tmp_path, 1)
    made.states("running", "succeeded+commit")
    of = allowed(made, None)
    assert len(run(made, of)[0]) == 1
    assert of.spent.jobs == 0 and not read_costs(made.lake.store, "p")


def cost(job: str, usd: float | None, **changes: Any) -> JobCost:
    fields = {"pipeline": "p", "dataset": "d", "partition": "d-00000", "spec_id": "s", "rows": 1, "committed": True}
    return JobCost(**{**fields, "job": job, "usd": usd, "on_demand_usd": None, **changes})


def test_a_known_cost_is_not_forgotten_for_an_unknown_one(store: Store) -> None:
    write_cost(store, cost("7", 1.0))
    write_cost(store, cost("7", None, reason="attached late"))
    assert [c.usd for c in read_costs(store, "p")] == [1.0]
    write_cost(store, cost("7", 1.5))
    store.replace("costs/p/damaged.json", b"{")
    assert [c.usd for c in read_costs(store, "p")] == [1.5]


def test_what_was_known_while_a_job_ran_gives_way_to_an_unknown_end(store: Store) -> None:
    write_cost(store, cost("7", 1.0, over=False))
    write_cost(store, cost("7", None, reason="a machine was never seen"))
    assert [c.usd for c in read_costs(store, "p")] == [None]


@given(st.lists(st.tuples(st.none() | st.floats(0, 1e3), st.none() | st.floats(0, 1e3)), max_size=20))
def test_totals_add_only_what_is_known(values: list[tuple[float | None, float | None]]) -> None:
    spent = total_of(cost(str(at), usd, on_demand_usd=more) for at, (usd, more) in enumerate(values))
    assert spent.usd == pytest.approx(sum(usd for usd, _ in values if usd is not None))
    assert spent.jobs == len(values) and spent.unknown == sum(usd is None for usd, _ in values)
    partly = [more for usd, more in values if usd is not None]
    assert (spent.on_demand_usd is None) == (not partly or None in partly)
    assert spent.text()
