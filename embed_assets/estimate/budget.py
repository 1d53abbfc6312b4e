"""`budget_usd`: what was spent, what runs and what waits, held against the pipeline's limit before each launch."""

import logging
import time
from collections.abc import Callable, Sequence

from embed_assets.estimate.costs import JobCost, Spent, cost_of, read_costs, total_of, write_cost
from embed_worker.lake.errors import LakeError
from embed_worker.lake.job import EmbedJob
from embed_worker.lake.parallel import in_parallel
from resources.compute import JobHandle, JobStatus
from resources.lake import Lake

log = logging.getLogger(__name__)

READ_SECONDS = 120.0
KEEP_SECONDS = 300.0
"""Between two notes of what a running job has cost so far."""

Prior = Callable[[str], tuple[float | None, str]]
"""Dollars a row of a dataset as `embed-assets plan` projects them, or None with the reason."""


class RunBudget:
    """The driver's budget: keeps each job's cost in the lake, and refuses launches that a budget does not cover.

    The projection of a run is: spent by the pipeline so far, by any run and model, plus what runs, plus what waits.
    Dollars a row are measured over the committed jobs of this very spec, or projected before there is one. Jobs
    that other runs have open are in it with what they have cost so far.
    """

    def __init__(self, lake: Lake, pipeline: str, limit: float | None, prior: Prior) -> None:
        self._lake, self._pipeline, self._limit, self._prior = lake, pipeline, limit, prior
        self._costs: dict[tuple[str, str], JobCost] = {}
        self._priors: dict[str, tuple[float | None, str]] = {}
        self._read_at = float("-inf")
        self._kept_at: dict[tuple[str, str], float] = {}
        self.of_run: list[JobCost] = []
        """Of the jobs that ended in this run."""

    @property
    def spent(self) -> Spent:
        return total_of(self.of_run)

    def running(self, jobs: Sequence[tuple[EmbedJob, JobStatus]]) -> None:
        """Keeps what each job has cost so far, now and then: what is spent is seen while it is spent."""
        now, due = time.monotonic(), []
        for job, status in jobs:
            cost = None if status.state.final else cost_of(job, status, committed=False, over=False)
            if cost is None or cost.usd is None:
                continue
            if now - self._kept_at.get((cost.partition, cost.job), float("-inf")) >= KEEP_SECONDS:
                self._kept_at[cost.partition, cost.job] = now
                due.append(cost)
        if due:
            in_parallel(self._keep, due)

    def ended(self, job: EmbedJob, handle: JobHandle, status: JobStatus, *, committed: bool) -> None:
        cost = cost_of(job, status, committed=committed)
        if cost is None:
            return
        self.of_run.append(cost)
        self._costs[cost.partition, cost.job] = cost
        self._keep(cost)

    def _keep(self, cost: JobCost) -> None:
        try:
            write_cost(self._lake.store, cost)
        except LakeError as error:  # a cost is never worth a run that drives a hundred partitions
            log.warning("the cost of %s is not kept in the lake: %s", cost.partition, error)

    def refusal(
        self, waiting: Sequence[EmbedJob], running: Sequence[tuple[EmbedJob, JobStatus]]
    ) -> tuple[str, str] | None:
        limit = self._limit
        if limit is None:
            return None
        self._read()
        mine = {(job.shard.key, str(status.facts.id)) for job, status in running}
        counted = [cost for key, cost in self._costs.items() if key not in mine]  # mine are counted as they run
        spent = total_of(counted)
        going = waits = 0.0
        source = ""
        for job, status in running:
            rate, source = self._per_row(job)
            so_far = status.facts.cost_dollars or 0.0
            going += max(so_far, (rate or 0.0) * job.input.rows)
        for job in waiting:
            rate, source = self._per_row(job)
            if rate is None:
                return (
                    f"budget_usd is ${limit:,.2f}, but what a job costs is not known",
                    f"budget_usd is ${limit:,.2f}, but what {job.shard} costs is not known ({source}). Nothing more is "
                    "launched: state plan.usd_per_hour and plan.tokens_per_second, or take budget_usd away",
                )
            waits += rate * job.input.rows
        for cost in counted:
            if cost.usd is None:  # not known, but not free either
                going += self._rate_of(cost) * cost.rows
        projected = spent.usd + going + waits
        if projected <= limit:
            return None
        fits = int(len(waiting) * max(0.0, limit - spent.usd - going) / waits) if waits else 0
        short = f"${projected:,.2f} are projected, budget_usd is ${limit:,.2f}"
        return short, (
            f"{short}: ${spent.usd:,.2f} spent by {spent.jobs} jobs so far, ${going:,.2f} for {len(running)} that run, "
            f"${waits:,.2f} for {len(waiting)} that wait ({source}). The rest is not launched: raise budget_usd, or "
            f"select at most {fits} of them"
        )

    def _per_row(self, job: EmbedJob) -> tuple[float | None, str]:
        dataset, spec_id = job.shard.dataset, job.shard.spec_id
        known = [
            cost
            for cost in self._costs.values()
            if cost.committed and cost.usd is not None and (cost.dataset, cost.spec_id) == (dataset, spec_id)
        ]
        if rows := sum(cost.rows for cost in known):
            return sum(cost.usd or 0.0 for cost in known) / rows, f"measured over {len(known)} committed jobs"
        if dataset not in self._priors:
            self._priors[dataset] = self._prior(dataset)
        return self._priors[dataset]

    def _rate_of(self, cost: JobCost) -> float:
        known = [c for c in self._costs.values() if c.usd is not None and c.dataset == cost.dataset and c.rows]
        if rows := sum(c.rows for c in known):
            return sum(c.usd or 0.0 for c in known) / rows
        return (self._priors.get(cost.dataset) or (None, ""))[0] or 0.0

    def _read(self) -> None:
        """Other runs of the pipeline spend too."""
        if time.monotonic() - self._read_at < READ_SECONDS:
            return
        for cost in read_costs(self._lake.store, self._pipeline):
            self._costs[cost.partition, cost.job] = cost
        self._read_at = time.monotonic()
