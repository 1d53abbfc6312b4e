"""A backfill is many runs: together they keep to one budget."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from embed_assets.estimate.costs import read_costs, total_of
from embed_worker.lake.layout import reservations_folder
from tests.kits.drive.bench import DriverBench
from tests.kits.drive.paid import allowed, bench, paid, run

RUNS, JOBS, EACH, LIMIT = 5, 100, 0.55, 100.0


@pytest.mark.slow
def test_five_runs_of_a_backfill_spend_one_budget(tmp_path: Path) -> None:
    """500 jobs of $0.55 each: 181 of them are $99.55."""
    made = [bench(tmp_path, range(at * JOBS, (at + 1) * JOBS), slots=40) for at in range(RUNS)]
    for one in made:
        paid(one, EACH)

    def drive(one: DriverBench) -> tuple[int, int]:
        committed, failed, _ = run(one, allowed(one, LIMIT, per_row=EACH / 100))
        assert {failure.error.split(":")[0] for failure in failed} <= {"not launched"}
        return len(committed), len(failed)

    with ThreadPoolExecutor(RUNS) as pool:
        ends = list(pool.map(drive, made))
    launched = sum(one.compute.calls["submit"] for one in made)
    assert all(committed + failed == JOBS for committed, failed in ends)
    assert launched == sum(committed for committed, _ in ends) == 181
    spent = total_of(read_costs(made[0].lake.store, "p"))
    assert spent.jobs == 181 and spent.usd == pytest.approx(99.55)
    assert not made[0].lake.store.list(reservations_folder("p")), "nothing stays put aside"


def test_a_run_that_begins_later_finds_what_the_first_has_put_aside(tmp_path: Path) -> None:
    first, second = bench(tmp_path, range(10), slots=10), bench(tmp_path, range(10, 20), slots=10)
    budgets = [allowed(one, 10.0, per_row=0.006) for one in (first, second)]
    granted, refusal = budgets[0].reserve(first.jobs)
    assert len(granted) == 10 and refusal is None
    granted, refusal = budgets[1].reserve(second.jobs)
    assert len(granted) == 6 and refusal is not None
    assert refusal.short == "$0.60 are expected, of budget_usd $10.00 $0.40 are left"
    assert refusal.figures == (
        "budget_usd is $10.00: $0.00 spent by 0 jobs, $9.60 put aside for 16 that run or are about to. "
        "d-00016 is expected to cost $0.60 (the plan), and $0.40 are left"
    )
    budgets[0].withdraw(first.jobs[:2])
    granted, _ = budgets[1].reserve(second.jobs)
    assert len(granted) == 8
