"""What a job costs: SkyPilot's catalog price of each machine it held, times the seconds it held it.

An estimate by nature (list prices, no storage, no egress), exact to one poll. Where a part is not known the whole
is not known, and says why: never 0 for "unknown".
"""

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from resources.skypilot.deadlines import DeadlinePassed

NO_PRICE_LIST = frozenset({"slurm", "kubernetes", "ssh"})
"""Infrastructure whose machines have no instance type, hence no price in a catalog."""
MACHINE = re.compile(r"^(?P<nodes>\d+)x(?P<spot>\[spot\])?\((?P<elements>.*)\)$", re.IGNORECASE)
EMPTY = (None, "", "-")
RETRY_SECONDS = 300.0
"""A price that could not be had is asked for again: a catalog that is slow once is not unknown for a whole run."""


@dataclass(frozen=True)
class Machine:
    """What a job runs on, as the queue's `cluster_resources_full` names it while the machine lives."""

    cloud: str
    region: str | None
    zone: str | None
    instance_type: str | None
    accelerators: tuple[tuple[str, float], ...]
    spot: bool
    nodes: int = 1


Price = tuple[float | None, str]
"""Dollars an hour, or None with the reason."""


def machine_of(record: Mapping[str, Any]) -> Machine | None:
    """The machine of a queue record; None while there is none."""
    match = MACHINE.match(str(record.get("cluster_resources_full") or ""))
    if match is None or record.get("cloud") in EMPTY:
        return None
    elements = [element.strip() for element in match["elements"].split(",")]
    named = [element for element in elements if element and "=" not in element and element != "..."]
    gpus = record.get("accelerators") or {}
    region, zone = (None if record.get(key) in EMPTY else str(record[key]) for key in ("region", "zone"))
    return Machine(
        cloud=str(record["cloud"]),
        region=region,
        zone=zone,
        instance_type=named[0] if named else None,
        accelerators=tuple(sorted((str(name), float(count)) for name, count in gpus.items())),
        spot=bool(match["spot"]),
        nodes=int(match["nodes"]),
    )


class PriceList:
    """Hourly prices, each looked up once; a look-up that fails, at most once in RETRY_SECONDS."""

    def __init__(self, look_up: Callable[[Machine], float], clock: Callable[[], float] = time.monotonic) -> None:
        self._look_up, self._clock = look_up, clock
        self._known: dict[Machine, Price] = {}
        self._again: dict[Machine, float] = {}
        self._rests_until = float("-inf")  # a catalog that hangs holds up a poll once, not once a machine

    def hourly(self, machine: Machine) -> Price:
        price = self._known.get(machine, (None, "the price catalog did not answer"))
        if price[0] is None and self._clock() >= max(self._rests_until, self._again.get(machine, float("-inf"))):
            price = self._known[machine] = self._ask(machine)
            self._again[machine] = self._clock() + RETRY_SECONDS
        return price

    def _ask(self, machine: Machine) -> Price:
        if machine.cloud.lower() in NO_PRICE_LIST or machine.instance_type is None:
            return None, f"{machine.cloud} has no price list"
        try:
            price = self._look_up(machine) * machine.nodes
        except Exception as error:  # a price is never worth a partition
            if isinstance(error, DeadlinePassed):
                self._rests_until = self._clock() + RETRY_SECONDS
            return None, f"no catalog price for {machine.instance_type}: {' '.join(str(error).split())[:200]}"
        if price <= 0:
            return None, f"the catalog has no price for {machine.instance_type} in {machine.region}"
        return price, ""


@dataclass
class _Held:
    machine: Machine
    since: float
    until: float


class Ledger:
    """The machines that one job has held, one after another, as its polls saw them."""

    def __init__(self, prices: PriceList) -> None:
        self._prices = prices
        self._held: dict[int, _Held] = {}  # by recovery count

    def see(self, machine: Machine | None, recoveries: int, now: float, since: float | None) -> None:
        """Notes a poll. `since`: when SkyPilot says this machine began to run."""
        if machine is None:
            return
        held = self._held.get(recoveries)
        if held is None or held.machine != machine:
            began = since if since is not None and since <= now else now
            held = self._held[recoveries] = _Held(machine, began, now)
        held.until = now

    @property
    def latest(self) -> Machine | None:
        return self._held[max(self._held)].machine if self._held else None

    def hourly(self) -> Price:
        return self._prices.hourly(self.latest) if self.latest else (None, "no poll saw its machine")

    def cost(self, recoveries: int, *, on_demand: bool = False) -> Price:
        """Dollars so far; `on_demand`: what the same machines and seconds would have cost without spot."""
        unseen = [n for n in range(recoveries + 1) if n not in self._held]
        if unseen:
            return None, f"{len(unseen)} of its {recoveries + 1} machines were never seen by this run"
        total = 0.0
        for held in self._held.values():
            price, reason = self._prices.hourly(replace(held.machine, spot=False) if on_demand else held.machine)
            if price is None:
                return None, reason
            total += price * (held.until - held.since) / 3600
        return total, ""
