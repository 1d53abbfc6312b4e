"""What jobs have cost, kept in the lake: one small file a job, so that every run and page sees what was spent."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from embed_worker.lake.job import EmbedJob
from embed_worker.lake.parallel import in_parallel
from embed_worker.lake.store import Store, to_json
from resources.compute import JobStatus

Dollars = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class JobCost(BaseModel):
    """A job, over or still running. Dollars are None where they are not known; then `reason` says why."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    pipeline: str
    dataset: str
    partition: str
    spec_id: str
    job: str
    rows: int
    committed: bool
    usd: Dollars | None
    on_demand_usd: Dollars | None
    reason: str = ""
    spot: bool | None = None
    accelerators: str | None = None
    region: str | None = None
    over: bool = True
    """False: dollars are those up to the time the file was written."""
    dollars_per_hour: Dollars | None = None
    """Of the machine that the job had last."""


def cost_of(job: EmbedJob, status: JobStatus, *, committed: bool, over: bool = True) -> JobCost | None:
    """None where the backend has no prices at all: jobs on this machine."""
    facts = status.facts
    if not facts.priced:
        return None
    return JobCost(
        pipeline=job.pipeline,
        dataset=job.shard.dataset,
        partition=job.shard.key,
        spec_id=job.shard.spec_id,
        job=str(facts.id),
        rows=job.input.rows,
        committed=committed,
        usd=facts.cost_dollars,
        on_demand_usd=facts.on_demand_dollars,
        reason=facts.unknown.get("cost_dollars") or facts.unknown.get("on_demand_dollars", ""),
        spot=facts.spot,
        accelerators=facts.accelerators,
        region=facts.region,
        over=over,
        dollars_per_hour=facts.dollars_per_hour,
    )


def write_cost(store: Store, cost: JobCost) -> None:
    """A job that was attached to by a later run is the same file: the later word counts, unless it knows less.

    What was known of a job while it ran is no cost of it once it is over.
    """
    name = re.sub(r"[^A-Za-z0-9._-]", "_", f"{cost.partition}.{cost.job}")
    path = f"costs/{cost.pipeline}/{name}.json"
    if cost.usd is None and (known := _read(store, path)) is not None and known.over:
        return
    store.replace(path, to_json(cost.model_dump(mode="json")))


def read_costs(store: Store, pipeline: str) -> list[JobCost]:
    """Of every job of a pipeline, whichever model and snapshot. A damaged file is left out."""
    folder = f"costs/{pipeline}"
    names = [name for name in store.list(folder) if name.endswith(".json")]
    found = in_parallel(lambda name: _read(store, f"{folder}/{name}"), names)
    return [cost for cost in found if cost is not None]


def _read(store: Store, path: str) -> JobCost | None:
    try:
        value: Any = store.read_json(path)
        return JobCost.model_validate(value)
    except (FileNotFoundError, ValidationError, ValueError):
        return None


@dataclass(frozen=True)
class Spent:
    """The sum of some jobs' costs."""

    jobs: int
    usd: float
    """Of the jobs whose cost is known."""
    on_demand_usd: float | None
    """What those would have cost on demand; None where that is not known of each."""
    unknown: int
    """Jobs whose cost is not known: they are in no sum."""

    def text(self) -> str:
        """`$277.07 for 500 jobs; on demand $710.41, 61% saved`, as far as it is known."""
        if self.jobs == self.unknown:
            return f"cost unknown for all {self.jobs} jobs"
        text = f"${self.usd:,.4g} for {self.jobs - self.unknown} jobs"
        if self.on_demand_usd is None:
            text += "; on demand unknown"
        elif self.on_demand_usd > 0:
            saved = 1 - self.usd / self.on_demand_usd
            text += f"; on demand ${self.on_demand_usd:,.4g}" + (f", {saved:.0%} saved" if saved > 0.005 else "")
        return text + (f"; unknown for {self.unknown} more" if self.unknown else "")


def total_of(costs: Iterable[JobCost]) -> Spent:
    costs = list(costs)
    known = [cost for cost in costs if cost.usd is not None]
    on_demand = [cost.on_demand_usd for cost in known]
    return Spent(
        jobs=len(costs),
        usd=sum(cost.usd or 0.0 for cost in known),
        on_demand_usd=None if not known or None in on_demand else sum(value or 0.0 for value in on_demand),
        unknown=len(costs) - len(known),
    )
