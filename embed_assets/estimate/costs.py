"""What jobs have cost, kept in the lake: one small file a job, so that every run and page sees what was spent."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from embed_assets.estimate.reservations import Reservation
from embed_worker.lake.job import EmbedJob
from embed_worker.lake.parallel import in_parallel
from embed_worker.lake.store import Listed, Store, to_json
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
    reservation: str | None = None
    """Whose place this cost takes, by its id."""
    expected_usd: Dollars | None = None
    """What was put aside for the job: of one whose cost is not known, this counts against a budget."""


def cost_of(
    job: EmbedJob, status: JobStatus, *, committed: bool, over: bool = True, reservation: Reservation | None = None
) -> JobCost | None:
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
        reservation=reservation.id if reservation else None,
        expected_usd=reservation.usd if reservation else None,
    )


def write_cost(store: Store, cost: JobCost) -> None:
    """A job that was attached to by a later run is the same file: the later word counts, unless it knows less.

    What was known of a job while it ran is no cost of it once it is over.
    """
    name = re.sub(r"[^A-Za-z0-9._-]", "_", f"{cost.partition}.{cost.job}")
    path = f"{_folder(cost.pipeline)}/{name}.json"
    if (cost.usd is None or not cost.over) and (known := _read(store, path)) is not None and known.over:
        return
    store.replace(path, to_json(cost.model_dump(mode="json")))


def read_costs(store: Store, pipeline: str) -> list[JobCost]:
    """Of every job of a pipeline, whichever model and snapshot. A damaged file is left out."""
    return Costs(store, pipeline).read()


class Costs:
    """A pipeline's costs, followed: asked again, it reads the files that are new or were replaced."""

    def __init__(self, store: Store, pipeline: str) -> None:
        self._store, self._pipeline = store, pipeline
        self._known: dict[Listed, JobCost | None] = {}

    def read(self) -> list[JobCost]:
        """A damaged file is left out."""
        listed = [file for file in self._store.listing(_folder(self._pipeline)) if file.path.endswith(".json")]
        new = [file for file in listed if file not in self._known]
        read = dict(zip(new, in_parallel(lambda file: _read(self._store, file.path), new), strict=True))
        self._known = {file: read[file] if file in read else self._known[file] for file in listed}
        return [cost for cost in self._known.values() if cost is not None]


def _folder(pipeline: str) -> str:
    return f"costs/{pipeline}"


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
