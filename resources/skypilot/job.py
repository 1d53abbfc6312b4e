"""One managed job as the backend sees it: from the launch request to its end."""

import time
from collections.abc import Container, Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

from resources.compute import JobHandle, JobState, JobStatus
from resources.facts import JobFacts
from resources.skypilot.client import Record, RequestId
from resources.skypilot.cost import EMPTY, Ledger, Machine, machine_of
from resources.skypilot.states import explain, is_live, job_state, kind_of

CLOCK_SKEW = 120.0
"""Between this machine's clock and the server's."""
PLACE = ("infra", "cloud", "region", "zone")
UNSEEN = "no poll saw its machine"


class Phase(Enum):
    WAITING = auto()
    """Launches in flight may be an earlier run's of it: it is not known yet whether it is to be launched."""
    LAUNCHING = auto()
    """A thread is at it; nothing is in the queue yet, or its answer is not here yet."""
    LOST = auto()
    """The launch's answer got lost: the job may exist."""
    KNOWN = auto()
    """It has an id."""


@dataclass(eq=False)
class ManagedJob:
    """`name` is what the queue calls it."""

    handle: JobHandle
    name: str
    config: Mapping[str, Any]
    ledger: Ledger
    dashboard: str = ""
    attached: bool = False
    phase: Phase = Phase.WAITING
    behind: frozenset[str] = frozenset()
    """The launch requests that it waits for."""
    job_id: int | None = None
    request: RequestId | None = None
    future: "Future[None] | None" = None
    sent: bool = False
    """A launch request may have reached the server."""
    cancelled: bool = False
    asked_at: float = field(default_factory=time.time)
    lost_at: float = 0.0
    missing_since: float | None = None
    seen: str = "PENDING"
    """Its last status in SkyPilot's words."""
    recoveries: int = 0
    late: bool = False
    status: JobStatus = field(default_factory=lambda: JobStatus(JobState.STARTING, "being launched"))

    def resolve(self, job_id: int) -> None:
        self.job_id, self.phase = job_id, Phase.KNOWN

    def attach(self, record: Record, dashboard: str, now: float) -> None:
        """It was there already."""
        self.resolve(int(record["job_id"]))
        self.attached, self.dashboard = True, dashboard
        self.asked_at = float(record.get("submitted_at") or now)
        self.read(record, now)

    def made_as(self, records: Iterable[Record], ended: Container[int], gone: bool) -> int | None:
        """The id in the queue of a job whose launch was not answered, if it is there.

        `gone`: the launch cannot land any more. As long as it may, a job that has ended is no answer: it may be one
        that an earlier run made and cancelled a moment ago.
        """
        mine = [r for r in records if r["job_name"] == self.name and int(r["job_id"]) not in ended]
        if live := [int(r["job_id"]) for r in mine if is_live(r["status"])]:
            return min(live)  # the oldest, should there be several
        late = [int(r["job_id"]) for r in mine if float(r.get("submitted_at") or 0) >= self.asked_at - CLOCK_SKEW]
        return max(late) if late and gone else None

    def end(self, state: JobState, detail: str, kind: str = "") -> None:
        self.status = JobStatus(state, detail, self.status.facts, kind=kind)

    def read(self, record: Record, now: float) -> None:
        """Takes over what the queue says."""
        self.missing_since = None
        self.seen = str(record["status"])
        recoveries = int(record.get("recovery_count") or 0)
        state = job_state(self.seen, record.get("failure_reason"))
        if is_live(self.seen):
            since = _time(record, "last_recovered_at" if recoveries else "start_at")
            self.ledger.see(machine_of(record), recoveries, now, since)
        notice = ""
        if recoveries > self.recoveries:
            why = "its machine was lost, or its worker asked for another start"  # SkyPilot does not say which
            notice = f"managed job {self.job_id} was started again (recovery {recoveries}): {why}"
        self.recoveries = recoveries
        assert self.job_id is not None
        detail = explain(self.seen, self.job_id, record.get("failure_reason")) or str(record.get("details") or "")
        kind = kind_of(self.seen, record.get("failure_reason"))
        self.status = JobStatus(state, detail, self._facts(record, now), kind=kind, notice=notice)

    def started(self, record: Record) -> bool:
        return _time(record, "start_at") is not None

    def hours(self, record: Record, now: float) -> float | None:
        """Since it first began to run, its recoveries included; None before."""
        start = _time(record, "start_at")
        return None if start is None else (now - start) / 3600

    def _facts(self, record: Record, now: float) -> JobFacts:
        submitted, start, end = (_time(record, key) for key in ("submitted_at", "start_at", "end_at"))
        machine = self.ledger.latest
        price, no_price = self.ledger.hourly()
        cost, no_cost = self.ledger.cost(self.recoveries)
        on_demand, no_on_demand = self.ledger.cost(self.recoveries, on_demand=True)
        values = {
            "accelerators": _accelerators(record, machine),
            "spot": machine.spot if machine else None,
            "machine": machine.instance_type if machine else None,
            "seconds_queued": None if self.attached else _between(self.asked_at, submitted),
            "seconds_launch": _between(submitted, start),
            "seconds_run": _between(start, end or now),
            "dollars_per_hour": None if price is None else round(price, 4),
            "cost_dollars": None if cost is None else round(cost, 4),
            "on_demand_dollars": None if on_demand is None else round(on_demand, 4),
            **{key: _text(record, key) for key in PLACE},
        }
        reasons = {
            "accelerators": UNSEEN,
            "spot": UNSEEN,
            "machine": "no instance type here" if machine else UNSEEN,
            "seconds_queued": "this run attached to a job that was there already" if self.attached else "still queued",
            "seconds_launch": "not started",
            "seconds_run": "not started",
            "dollars_per_hour": no_price,
            "cost_dollars": no_cost,
            "on_demand_dollars": no_on_demand,
            **{key: f"SkyPilot names no {key}" for key in PLACE},
        }
        return JobFacts(
            id=self.job_id,
            name=self.name,
            dashboard=self.dashboard,
            pool=_text(record, "pool") or "none",
            recoveries=self.recoveries,
            attached=self.attached,
            unknown={key: reasons[key] for key, value in values.items() if value is None},
            **values,
        )


def _time(record: Record, key: str) -> float | None:
    value = record.get(key)
    return float(value) if value is not None and float(value) > 0 else None


def _between(begin: float | None, end: float | None) -> float | None:
    return None if begin is None or end is None else round(max(0.0, end - begin), 1)


def _text(record: Record, key: str) -> str | None:
    value = record.get(key)
    return None if value in EMPTY else str(value)


def _accelerators(record: Record, machine: Machine | None) -> str | None:
    gpus = record.get("accelerators") or (dict(machine.accelerators) if machine else None)
    return None if gpus is None else ", ".join(f"{name}:{count:g}" for name, count in gpus.items()) or "none"
