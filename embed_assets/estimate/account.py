"""How much of a budget is taken, by all runs of a pipeline, and what a further row is expected to take."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from embed_assets.estimate.costs import JobCost
from embed_assets.estimate.reservations import Reservation
from embed_worker.lake.job import EmbedJob

PerRow = tuple[float | None, str]
"""Dollars, and where they are from; None with the reason."""
Prior = Callable[[str], PerRow]
"""Dollars a row of a dataset before any job of its spec has ended."""


@dataclass(frozen=True)
class Account:
    """What is known at one moment."""

    costs: Sequence[JobCost]
    outstanding: Mapping[str, Reservation]
    """By id."""
    prior: Prior
    own: Mapping[str, EmbedJob]
    """Jobs by what is put aside for them, as far as it is known."""

    @property
    def taken_usd(self) -> float:
        return self.spent_usd + self.aside_usd

    def per_row(self, dataset: str, spec_id: str) -> PerRow:
        """Measured over the committed jobs of this very spec, or projected before there is one."""
        usd, rows, jobs = self._measured.get((dataset, spec_id), (0.0, 0, 0))
        return (usd / rows, f"measured over {jobs} committed jobs") if rows else self.prior(dataset)

    @cached_property
    def _measured(self) -> dict[tuple[str, str], tuple[float, int, int]]:
        found: dict[tuple[str, str], tuple[float, int, int]] = defaultdict(lambda: (0.0, 0, 0))
        for cost in self.costs:
            if cost.committed and cost.usd is not None:
                usd, rows, jobs = found[cost.dataset, cost.spec_id]
                found[cost.dataset, cost.spec_id] = (usd + cost.usd, rows + cost.rows, jobs + 1)
        return dict(found)

    @cached_property
    def _so_far(self) -> dict[str, float]:
        """Dollars of jobs that are not over, by what is put aside for them."""
        found: dict[str, float] = defaultdict(float)
        for cost in self.costs:
            if not cost.over and cost.reservation is not None:
                found[cost.reservation] += cost.usd or 0.0
        return found

    @cached_property
    def aside(self) -> dict[str, float]:
        """By reservation whose job is not over: what was put aside, or more where that is known by now.

        That is what the job has cost so far, and what others like it have cost.
        """
        settled = {cost.reservation for cost in self.costs if cost.over}
        left = {id: one.usd for id, one in self.outstanding.items() if id not in settled}
        return {id: max(usd, self._so_far.get(id, 0.0), self._expected(id)) for id, usd in left.items()}

    @cached_property
    def aside_usd(self) -> float:
        return sum(self.aside.values())

    def _expected(self, id: str) -> float:
        if (job := self.own.get(id)) is None:
            return 0.0
        return (self.per_row(job.shard.dataset, job.shard.spec_id)[0] or 0.0) * job.input.rows

    @cached_property
    def spent(self) -> list[JobCost]:
        """Costs in whose place nothing is put aside: of jobs that are over, or that nobody follows."""
        return [cost for cost in self.costs if cost.over or cost.reservation not in self.aside]

    @cached_property
    def spent_usd(self) -> float:
        return sum(self._dollars(cost) for cost in self.spent)

    def _dollars(self, cost: JobCost) -> float:
        """What is not known is not free either."""
        known = cost.expected_usd if cost.usd is None else cost.usd
        return (self.per_row(cost.dataset, cost.spec_id)[0] or 0.0) * cost.rows if known is None else known
