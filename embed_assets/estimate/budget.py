"""`budget_usd`: what jobs have cost and what is put aside for others, held against the pipeline's limit."""

import logging
import random
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache

from embed_assets.drive.events import Refusal
from embed_assets.estimate.account import Account, Prior
from embed_assets.estimate.costs import Costs, JobCost, Spent, cost_of, total_of, write_cost
from embed_assets.estimate.reservations import Reservation, Reservations
from embed_worker.lake.errors import LakeError
from embed_worker.lake.job import EmbedJob
from embed_worker.lake.parallel import in_parallel
from resources.compute import JobHandle, JobState, JobStatus
from resources.lake import Lake

log = logging.getLogger(__name__)

KEEP_SECONDS = 300.0
"""Between two notes of what a running job has cost so far."""
RENEW_SECONDS = 3600.0
"""Between two signs that what is put aside is still wanted: a backend may be away for days."""
TRIES = 5
"""Runs that together put aside more than there is all withdraw; each tries again after a pause of its own."""
ROUNDING = 1e-9


@dataclass
class _Held:
    """What this run has put aside for a job."""

    job: EmbedJob
    reservation: Reservation
    launched: bool = False
    told: bool = False
    """The lake knows that it is launched."""


class RunBudget:
    """The driver's budget: keeps each job's cost in the lake, and lets launch what the limit covers.

    Against the limit counts what every run of the pipeline puts aside for its jobs, or what a job has cost so far
    where that is more; then what it has cost.
    """

    def __init__(self, lake: Lake, pipeline: str, limit: float | None, prior: Prior) -> None:
        self._store, self._limit, self._prior = lake.store, limit, cache(prior)
        self._costs, self._reservations = Costs(lake.store, pipeline), Reservations(lake.store, pipeline)
        self._noted: list[JobCost] = []
        self._outstanding: dict[str, Reservation] = {}
        self._looked = False
        self._own: dict[tuple[str, str], JobCost] = {}
        """Of this run's jobs, as of the last poll."""
        self._kept_at: dict[tuple[str, str], float] = {}
        self._held: dict[str, _Held] = {}
        """By the job's name."""
        self._unwanted: list[Reservation] = []
        """That the lake could not yet be told to remove."""
        self._renewed_at = time.monotonic()
        self.of_run: list[JobCost] = []
        """Of the jobs that ended in this run."""

    @property
    def spent(self) -> Spent:
        return total_of(self.of_run)

    # -- launching -------------------------------------------------------------------------------

    def reserve(self, jobs: Sequence[EmbedJob]) -> tuple[list[EmbedJob], Refusal | None]:
        if self._limit is None:
            return list(jobs), None
        self._renew()
        refusal = None
        for attempt in range(TRIES):
            wanted = [job for job in jobs if job.name not in self._held]
            if not wanted:
                break
            self._look()  # not long ago others may have put aside what they had to withdraw
            fitting, refusal = self._fitting(wanted, self._limit)
            if not fitting or self._put_aside(fitting, self._limit):
                break
            refusal = None
            time.sleep(random.uniform(0, 0.1 * 2**attempt))  # noqa: S311
        return [job for job in jobs if job.name in self._held], refusal

    def launched(self, jobs: Sequence[EmbedJob]) -> None:
        if self._limit is None:
            return
        for job in jobs:
            held = self._held.get(job.name) or self._adopt(job)
            held.launched = True
        self._tell_launched()

    def withdraw(self, jobs: Sequence[EmbedJob]) -> None:
        names = [job.name for job in jobs if job.name in self._held and not self._held[job.name].launched]
        self._release(self._held.pop(name).reservation for name in names)

    # -- what jobs cost --------------------------------------------------------------------------

    def running(self, jobs: Sequence[tuple[EmbedJob, JobStatus]]) -> None:
        """Keeps what each job has cost so far, now and then: what is spent is seen while it is spent."""
        self._tell_launched()
        now, due = time.monotonic(), []
        for job, status in jobs:
            cost = None if status.state.final else self._cost(job, status, over=False)
            if cost is None or cost.usd is None:
                continue
            key = (cost.partition, cost.job)
            self._own[key] = cost
            if now - self._kept_at.get(key, float("-inf")) >= KEEP_SECONDS:
                self._kept_at[key] = now
                due.append(cost)
        if due:
            in_parallel(self._keep, due)

    def ended(self, job: EmbedJob, handle: JobHandle, status: JobStatus, *, committed: bool) -> None:
        cost = self._cost(job, status, committed=committed)
        held = self._held.pop(job.name, None)
        never_ran = status.state in (JobState.QUEUED, JobState.STARTING)
        if cost is not None and not (cost.usd is None and never_ran):
            self.of_run.append(cost)
            self._own[cost.partition, cost.job] = cost
            if not self._keep(cost):
                return  # to other runs, what was put aside stands for it
        if held is not None:
            self._release([held.reservation])

    # -- inside ----------------------------------------------------------------------------------

    def _cost(self, job: EmbedJob, status: JobStatus, *, committed: bool = False, over: bool = True) -> JobCost | None:
        held = self._held.get(job.name)
        return cost_of(job, status, committed=committed, over=over, reservation=held.reservation if held else None)

    def _keep(self, cost: JobCost) -> bool:
        try:
            write_cost(self._store, cost)
        except LakeError as error:  # a cost is never worth a run that drives a hundred partitions
            log.warning("the cost of %s is not kept in the lake: %s", cost.partition, error)
            return False
        return True

    def _fitting(self, jobs: Sequence[EmbedJob], limit: float) -> tuple[list[_Held], Refusal | None]:
        """What is to be put aside for the jobs that find room, and what is to be said of the first that does not."""
        account = self._account()
        left = limit - account.taken_usd
        fitting: list[_Held] = []
        refusal = None
        for job in jobs:
            rate, source = account.per_row(job.shard.dataset, job.shard.spec_id)
            if rate is None:
                return fitting, Refusal(
                    f"budget_usd is ${limit:,.2f}, but what a job costs is not known",
                    f"budget_usd is ${limit:,.2f}, but what {job.shard} costs is not known ({source}): state "
                    "plan.usd_per_hour and plan.tokens_per_second, or take budget_usd away",
                )
            one = Reservation.of(job, rate * job.input.rows)
            if one.usd <= left + ROUNDING:
                fitting.append(_Held(job, one))
                left -= one.usd
            elif refusal is None:
                aside = account.aside_usd + sum(held.reservation.usd for held in fitting)
                launches, room = len(account.aside) + len(fitting), f"${max(left, 0.0):,.2f} are left"
                refusal = Refusal(
                    f"${one.usd:,.2f} are expected, of budget_usd ${limit:,.2f} {room}",
                    f"budget_usd is ${limit:,.2f}: ${account.spent_usd:,.2f} spent by {len(account.spent)} jobs, "
                    f"${aside:,.2f} put aside for {launches} that run or are about to. "
                    f"{job.shard} is expected to cost ${one.usd:,.2f} ({source}), and {room}",
                )
        return fitting, refusal

    def _put_aside(self, fitting: Sequence[_Held], limit: float) -> bool:
        """False where that was too much: then the last ones are withdrawn."""
        reservations = [held.reservation for held in fitting]
        try:
            self._reservations.put(reservations)
            self._look()
        except LakeError:
            self._release(reservations)
            raise
        over, kept = self._account().taken_usd - limit, len(fitting)
        while kept and over > ROUNDING:
            kept -= 1
            over -= reservations[kept].usd
        self._held |= {held.job.name: held for held in fitting[:kept]}
        self._release(reservations[kept:])
        return kept == len(fitting)

    def _adopt(self, job: EmbedJob) -> _Held:
        """What another run, that may be dead, has put aside for a live job; where it did not, that is made up for."""
        if not self._looked:
            try:
                self._look()
            except LakeError as error:
                log.warning("what is put aside in the lake is not known: %s", error)
        one = next((one for one in self._outstanding.values() if one.is_of(job)), None)
        if one is None:
            rate, _ = self._account().per_row(job.shard.dataset, job.shard.spec_id)
            one = Reservation.of(job, (rate or 0.0) * job.input.rows)
            self._outstanding[one.id] = one
        held = self._held[job.name] = _Held(job, one)
        return held

    def _tell_launched(self) -> None:
        untold = [held for held in self._held.values() if held.launched and not held.told]
        if not untold:
            return
        try:
            self._reservations.mark_launched([held.reservation for held in untold])
        except LakeError as error:  # told again with the next poll
            log.warning("the lake does not know yet that %d jobs are launched: %s", len(untold), error)
            return
        for held in untold:
            held.told = True

    def _renew(self) -> None:
        if time.monotonic() - self._renewed_at >= RENEW_SECONDS:
            self._reservations.renew([held.reservation for held in self._held.values() if not held.launched])
            self._renewed_at = time.monotonic()

    def _release(self, reservations: Iterable[Reservation]) -> None:
        self._unwanted += reservations
        for one in self._unwanted:
            self._outstanding.pop(one.id, None)
        try:
            self._reservations.withdraw(self._unwanted)
        except LakeError as error:
            log.warning("%d reservations are not withdrawn yet: %s", len(self._unwanted), error)
        else:
            self._unwanted = []

    def _look(self) -> None:
        """The reservations first: of a job that ends meanwhile, both it and the cost are seen, and one counts."""
        self._release([])
        unwanted = {one.id for one in self._unwanted}
        outstanding = self._reservations.outstanding()
        self._noted = self._costs.read()
        self._outstanding = {one.id: one for one in outstanding if one.id not in unwanted}
        self._looked = True

    def _account(self) -> Account:
        known = {(cost.partition, cost.job): cost for cost in self._noted}
        for key, cost in self._own.items():
            if cost.over or key not in known or not known[key].over:
                known[key] = cost
        own = {held.reservation.id: held.job for held in self._held.values()}
        return Account(list(known.values()), self._outstanding, self._prior, own)
