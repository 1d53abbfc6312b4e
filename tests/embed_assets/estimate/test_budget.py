"""budget_usd: nothing is launched that it does not cover, and the figures are said; costs are kept in the lake."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embed_assets.estimate.budget import RunBudget
from embed_assets.estimate.costs import JobCost, read_costs, total_of, write_cost
from embed_worker.lake.errors import StoreUnavailable
from embed_worker.lake.store import Store
from resources.compute import JobHandle, JobState, JobStatus
from resources.facts import JobFacts
from tests.kits.drive.bench import job_of
from tests.kits.drive.paid import ROWS, allowed, bench, paid, run


def running(id: int, usd: float | None) -> JobStatus:
    unknown = {"cost_dollars": "no price list"} if usd is None else {}
    return JobStatus(JobState.RUNNING, facts=JobFacts(id=id, cost_dollars=usd, unknown=unknown))


def over(id: int, usd: float | None, state: JobState = JobState.SUCCEEDED) -> JobStatus:
    return JobStatus(state, facts=running(id, usd).facts)


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
        of.reserve(made.jobs)
    made.drivers_lake.store.away = None
    granted, refusal = of.reserve(made.jobs)
    assert not granted and refusal is not None and "$9.00 spent by 1 jobs" in refusal.figures


def test_as_many_as_find_room_are_launched_and_the_rest_says_why(tmp_path: Path) -> None:
    made = bench(tmp_path, 4, slots=4)
    paid(made, 1.0)
    committed, failed, notes = run(made, allowed(made, 3.99, per_row=0.01))
    assert len(committed) == made.compute.calls["submit"] == 3
    assert [f.job.shard.key for f in failed] == [made.jobs[3].shard.key]
    assert failed[0].error == "not launched: $1.00 are expected, of budget_usd $3.99 $0.99 are left"
    assert "budget_usd is $3.99: $3.00 spent by 3 jobs, $0.00 put aside for 0 that run or are about to" in notes
    assert "d-00003 is expected to cost $1.00 (measured over 3 committed jobs), and $0.99 are left" in notes
    assert "3 jobs of this run were launched, 1 partitions are not: raise budget_usd" in notes
    waits = "What waits is asked for again as jobs end"
    assert sum(waits in note.text for note in made.notes) == 1, "told once, not with each poll"


def test_what_waits_is_launched_where_jobs_turn_out_cheaper(tmp_path: Path) -> None:
    made = bench(tmp_path, 4, slots=4)
    paid(made, 0.1)
    committed, failed, notes = run(made, allowed(made, 2.0, per_row=0.01))
    assert len(committed) == 4 and not failed
    assert "$2.00 put aside for 2 that run or are about to" in notes and "not launched" not in notes


def test_a_job_that_does_not_fit_keeps_no_smaller_one_from_being_launched(tmp_path: Path) -> None:
    made = bench(tmp_path, 3)
    made.jobs[0] = job_of(made.lake, 0, rows=50 * ROWS)
    granted, refusal = allowed(made, 3.0, per_row=0.01).reserve(made.jobs)
    assert granted == made.jobs[1:] and refusal is not None and "$50.00 are expected" in refusal.short


def test_what_jobs_really_cost_replaces_the_projection_and_stops_the_rest(tmp_path: Path) -> None:
    made = bench(tmp_path, 10, slots=2)
    paid(made, 3.0, on_demand=8.0)
    of = allowed(made, 20.0, per_row=0.01)  # projected: 10 dollars; really: 30
    committed, failed, notes = run(made, of)
    assert 2 <= len(committed) <= 6 and len(committed) + len(failed) == 10
    assert "measured over" in notes and "jobs of this run were launched" in notes
    assert of.spent.usd == 3.0 * len(committed) <= 20.0
    assert (
        of.spent.text()
        == f"${3.0 * len(committed):,.4g} for {len(committed)} jobs; on demand ${8.0 * len(committed):,.4g}, 62% saved"
    )


def test_jobs_that_run_count_with_what_they_are_expected_to_cost(tmp_path: Path) -> None:
    made = bench(tmp_path, 3)
    of = allowed(made, 10.0, per_row=0.01)
    (first, second, third) = made.jobs
    assert of.reserve([first, second]) == ([first, second], None)
    of.launched([first, second])
    of.running([(first, running(1, 7.5)), (second, running(2, None))])
    assert of.reserve([third]) == ([third], None)  # 7.5 + 1 + 1
    of.withdraw([third])
    of.running([(first, running(1, 8.5))])
    granted, refusal = of.reserve([third])  # 8.5 + 1 + 1
    assert not granted and refusal is not None and "$9.50 put aside for 2 that run" in refusal.figures


def test_own_jobs_are_expected_to_cost_what_the_first_ones_did(tmp_path: Path) -> None:
    made = bench(tmp_path, 4)
    of = allowed(made, 10.0, per_row=0.01)
    assert of.reserve(made.jobs[:3]) == (made.jobs[:3], None)
    of.launched(made.jobs[:3])
    of.ended(made.jobs[0], JobHandle("1", "j"), over(1, 3.0), committed=True)
    granted, refusal = of.reserve(made.jobs[3:])  # 3 + 3 + 3, and 3 more
    assert not granted and refusal is not None and "$1.00 are left" in refusal.short


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
    assert of.reserve([first]) == ([first], None)
    of.launched([first])
    of.running([(first, running(7, 3.0)), (second, running(8, None))])
    facts = JobFacts(id=7, cost_dollars=8.5, dollars_per_hour=0.4, spot=True)
    of.running([(first, JobStatus(JobState.RUNNING, facts=facts))])
    (kept,) = read_costs(made.lake.store, "p")
    assert (kept.usd, kept.over, kept.committed, kept.dollars_per_hour, kept.spot) == (8.5, False, False, 0.4, True)
    assert kept.expected_usd == 1.0
    assert of.reserve([second]) == ([second], None)  # 8.5 + 1: its note is not counted beside it
    of.withdraw([second])
    granted, _ = allowed(made, 9.0, per_row=0.01).reserve([second])  # another run's job: 8.5 + 1
    assert not granted
    of.running([(first, over(7, 99.0))])
    assert [cost.usd for cost in read_costs(made.lake.store, "p")] == [8.5]
    of.ended(first, JobHandle("7", first.name), over(7, 8.5), committed=True)
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
    paid(again, 2.0)
    committed, failed, notes = run(again, allowed(again, 7.9, per_row=0.0001))
    assert len(committed) == 3 and len(failed) == 1  # the two of the first run are adopted
    assert "$4.00 spent by 2 jobs, $2.00 put aside for 1" in notes and "measured over 2 committed jobs" in notes


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
