"""Cost: list price times seconds held; unknown is unknown, never 0."""

from typing import Any

import pytest

from resources.skypilot.cost import RETRY_SECONDS, Ledger, Machine, PriceList, machine_of
from resources.skypilot.deadlines import DeadlinePassed
from tests.kits.clock import Clock

RECORD: dict[str, Any] = {
    "cluster_resources_full": "1x[spot](gpus=L4:1, cpus=4, mem=16, g6.xlarge, disk=150)",
    "cloud": "AWS", "region": "us-east-1", "zone": "us-east-1a", "accelerators": {"L4": 1},
}  # fmt: skip
L4 = Machine("AWS", "us-east-1", "us-east-1a", "g6.xlarge", (("L4", 1.0),), True)


def prices(table: dict[str, float]) -> PriceList:
    return PriceList(lambda machine: table[str(machine.instance_type)])


@pytest.mark.parametrize(
    ("changes", "machine"),
    [
        ({}, L4),
        (
            {"cluster_resources_full": "2x(gpus=L4:1, cpus=4, mem=16, g6.xlarge, disk=150)", "zone": "-"},
            Machine("AWS", "us-east-1", None, "g6.xlarge", (("L4", 1.0),), False, 2),
        ),
        (
            {"cluster_resources_full": "1x(cpus=1, mem=2, disk=256)", "cloud": "Slurm", "accelerators": None},
            Machine("Slurm", "us-east-1", "us-east-1a", None, (), False),
        ),
        ({"cluster_resources_full": "-"}, None),
        ({"cluster_resources_full": None}, None),
        ({"cluster_resources_full": "<initializing>"}, None),
        ({"cloud": "-"}, None),
    ],
)
def test_the_queue_names_the_machine(changes: dict[str, Any], machine: Machine | None) -> None:
    assert machine_of({**RECORD, **changes}) == machine


def test_cost_is_price_times_seconds_of_every_machine() -> None:
    ledger = Ledger(prices({"g6.xlarge": 0.36, "g5.2xlarge": 0.72}))
    ledger.see(L4, 0, now=1100, since=1000)
    ledger.see(L4, 0, now=2000, since=1000)
    ledger.see(Machine("AWS", "us-west-2", None, "g5.2xlarge", (), True), 1, now=2500, since=2500)
    ledger.see(Machine("AWS", "us-west-2", None, "g5.2xlarge", (), True), 1, now=3000, since=2500)
    assert ledger.cost(1) == (pytest.approx(0.36 * 1000 / 3600 + 0.72 * 500 / 3600), "")
    assert ledger.hourly() == (0.72, "")


def test_two_nodes_cost_twice() -> None:
    assert prices({"g6.xlarge": 0.3}).hourly(Machine("AWS", "r", None, "g6.xlarge", (), False, 2)) == (0.6, "")


@pytest.mark.parametrize(
    ("table", "machine", "reason"),
    [
        ({}, L4, "no catalog price for g6.xlarge"),
        ({"g6.xlarge": 0.0}, L4, "no price for g6.xlarge in us-east-1"),
        ({"g6.xlarge": 1.0}, Machine("Slurm", "c", "p", None, (), False), "Slurm has no price list"),
    ],
)
def test_an_unknown_price_is_not_zero(table: dict[str, float], machine: Machine, reason: str) -> None:
    ledger = Ledger(prices(table))
    ledger.see(machine, 0, now=100, since=0)
    for price, why in (ledger.hourly(), ledger.cost(0)):
        assert price is None and reason in why


def test_a_price_that_could_not_be_had_is_asked_for_again_after_a_while() -> None:
    table: dict[str, float] = {}
    clock, asked = Clock(1_000_000.0), 0

    def look_up(machine: Machine) -> float:
        nonlocal asked
        asked += 1
        return table[str(machine.instance_type)]

    ledger = Ledger(PriceList(look_up, clock=clock))
    ledger.see(L4, 0, now=3600, since=0)
    for seconds in (0, RETRY_SECONDS / 2, RETRY_SECONDS / 2 - 1):
        clock.now += seconds
        assert ledger.cost(0)[0] is None
    assert asked == 1  # each look-up may hold up a poll until its deadline
    table["g6.xlarge"] = 0.36
    clock.now += 1
    assert ledger.cost(0) == ledger.hourly() == (pytest.approx(0.36), "")
    clock.now += 9 * RETRY_SECONDS
    assert ledger.hourly()[0] == 0.36 and asked == 2


def test_a_catalog_that_hangs_is_waited_for_once_and_not_once_a_machine() -> None:
    clock, asked = Clock(1_000_000.0), 0

    def look_up(machine: Machine) -> float:
        nonlocal asked
        asked += 1
        raise DeadlinePassed("no answer within 120 s")

    listed = PriceList(look_up, clock=clock)
    machines = [Machine("AWS", f"region-{i}", None, "g6.xlarge", (), True) for i in range(9)]
    for seconds in (0, 1, RETRY_SECONDS):
        clock.now += seconds
        assert {listed.hourly(machine)[0] for machine in machines} == {None}
    assert asked == 2


def test_machines_that_no_poll_saw_make_the_cost_unknown() -> None:
    ledger = Ledger(prices({"g6.xlarge": 1.0}))
    assert ledger.cost(0)[0] is None
    ledger.see(L4, 2, now=100, since=0)
    assert ledger.cost(2) == (None, "2 of its 3 machines were never seen by this run")


def test_on_demand_is_the_same_seconds_without_spot() -> None:
    ledger = Ledger(PriceList(lambda machine: 0.36 if machine.spot else 0.90))
    ledger.see(L4, 0, now=1000, since=0)
    assert ledger.cost(0) == (pytest.approx(0.36 * 1000 / 3600), "")
    assert ledger.cost(0, on_demand=True) == (pytest.approx(0.90 * 1000 / 3600), "")
