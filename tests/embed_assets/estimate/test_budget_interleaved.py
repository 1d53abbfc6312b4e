"""No interleaving of runs that reserve, launch, end and die spends more than the budget."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embed_assets.estimate import budget, costs, reservations
from embed_assets.estimate.budget import RunBudget
from embed_worker.lake.job import EmbedJob
from embed_worker.lake.store import Store
from resources.compute import JobHandle, JobState, JobStatus
from resources.facts import JobFacts
from resources.lake import Lake
from tests.kits.attempt.stepping import fast_folder
from tests.kits.drive.bench import job_of

pytestmark = pytest.mark.slow

CALLS = ("create", "replace", "delete", "listing", "read")
ROWS, EXPECTED, LIMIT, TURNS = 100, 1.0, 4.0, 4


class Killed(BaseException):
    """The run's process is gone."""


@dataclass
class Launched:
    """A job of the backend. It goes on whatever becomes of the run that launched it."""

    name: str
    id: str
    aside: float
    """What its run had put aside for it."""
    actual: float
    """What it will have cost at its end."""
    so_far: float = 0.0
    state: JobState = JobState.RUNNING

    @property
    def status(self) -> JobStatus:
        return JobStatus(self.state, facts=JobFacts(id=self.id, cost_dollars=self.so_far))


@dataclass
class Spending:
    """The lake, and what the backend launches."""

    lake: Lake
    factors: Sequence[float]
    """What jobs really cost, against what is expected of them."""
    jobs: list[Launched] = field(default_factory=list)

    def live(self, job: EmbedJob) -> Launched | None:
        return next((one for one in self.jobs if one.name == job.name and not one.state.final), None)

    def committed(self, job: EmbedJob) -> bool:
        return any(one.name == job.name and one.state is JobState.SUCCEEDED for one in self.jobs)

    def launch(self, job: EmbedJob, aside: float) -> None:
        actual = EXPECTED * self.factors[len(self.jobs) % len(self.factors)]
        self.jobs.append(Launched(job.name, str(len(self.jobs)), aside, actual))

    def check(self) -> None:
        """Money that is spent, or will be; a job that is dearer than was expected is no fault of the budget."""
        bound = sum(one.actual if one.state.final else max(one.aside, one.so_far) for one in self.jobs)
        errors = sum(max(0.0, one.actual - one.aside) for one in self.jobs)
        assert bound <= LIMIT + errors + 1e-6, self.jobs


class SteppedRun:
    """A run in a thread of its own. It moves only when it is told to: from one call of the store to the next."""

    def __init__(self, spending: Spending, jobs: list[EmbedJob], pause: int = 1) -> None:
        """`pause`: steps that it takes where it waits a moment."""
        self.spending, self.jobs, self.pause = spending, jobs, pause
        self.over = self.dead = False
        self.fault: BaseException | None = None
        self._go, self._back = threading.Semaphore(0), threading.Semaphore(0)
        self._thread = threading.Thread(target=self._main, daemon=True)
        self._thread.start()

    def step(self) -> None:
        self._go.release()
        assert self._back.acquire(timeout=60), "the run hangs"
        if self.fault is not None:
            raise self.fault

    def kill(self) -> None:
        """Nothing of it reaches the lake any more."""
        self.dead = True
        while not self.over:
            self.step()

    def sleep(self) -> None:
        for _ in range(self.pause):
            self.reach()

    def reach(self) -> None:
        if self.dead:
            raise Killed
        self._back.release()
        self._go.acquire()
        if self.dead:
            raise Killed

    def _main(self) -> None:
        _here.run = self
        self._go.acquire()
        try:
            self._drive()
        except Killed:
            pass
        except BaseException as error:
            self.fault = error
        self.over = True
        self._back.release()

    def _drive(self) -> None:
        """As the driver does it."""
        of = RunBudget(self.spending.lake, "p", LIMIT, lambda _: (EXPECTED / ROWS, "the plan"))
        todo = [job for job in self.jobs if not self.spending.committed(job)]
        following = {job.name: (job, found) for job in todo if (found := self.spending.live(job))}
        of.launched([job for job, _ in following.values()])
        for _ in range(TURNS):
            waiting = [job for job in todo if job.name not in following and not self.spending.committed(job)]
            granted, _ = of.reserve(waiting)
            for job in granted:
                self.reach()
                self.spending.launch(job, of._held[job.name].reservation.usd)
                following[job.name] = job, self.spending.jobs[-1]
                self.reach()
                of.launched([job])
            of.running([(job, one.status) for job, one in following.values()])
            for job, one in [pair for pair in following.values() if pair[1].state.final]:
                committed = one.state is JobState.SUCCEEDED
                of.ended(job, JobHandle(one.name, one.id), one.status, committed=committed)
                del following[job.name]
            self.reach()
        of.withdraw([job for job in todo if job.name not in following])


_here = threading.local()


@contextmanager
def stepping() -> Iterator[None]:
    """In it, runs stand still at each call of the store."""

    def stopping(call: Callable[..., Any]) -> Callable[..., Any]:
        def stopped(store: Store, *arguments: Any, **options: Any) -> Any:
            if run := getattr(_here, "run", None):
                run.reach()
            return call(store, *arguments, **options)

        return stopped

    with pytest.MonkeyPatch.context() as patch:
        for name in CALLS:
            patch.setattr(Store, name, stopping(getattr(Store, name)))
        for module in (budget, costs, reservations):
            patch.setattr(module, "in_parallel", lambda ask, about: [ask(one) for one in about])
        patch.setattr(budget, "KEEP_SECONDS", 0.0)
        patch.setattr(budget.time, "sleep", lambda _: _here.run.sleep())
        yield


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_whatever_runs_do_at_once_the_budget_holds(data: st.DataObject) -> None:
    with fast_folder() as folder, stepping():
        spending = Spending(
            Lake(str(folder)), data.draw(st.lists(st.sampled_from([0.5, 1.0, 1.5]), min_size=1, max_size=9))
        )
        jobs = [job_of(spending.lake, stride, rows=ROWS) for stride in range(9)]
        parts = [jobs[:3], jobs[3:6], jobs[6:]]
        runs = [SteppedRun(spending, part) for part in parts]
        try:
            for _ in range(data.draw(st.integers(20, 150))):
                at = data.draw(st.integers(0, len(runs) - 1))
                match data.draw(st.sampled_from(["step"] * 12 + ["job"] * 3 + ["kill"])):
                    case "step" if not runs[at].over:
                        for _ in range(data.draw(st.integers(1, 6))):
                            if not runs[at].over:
                                runs[at].step()
                    case "job" if live := [one for one in spending.jobs if not one.state.final]:
                        one = live[at % len(live)]
                        ends = one.so_far > 0
                        one.so_far = one.actual if ends else one.actual / 2
                        if ends:
                            one.state = data.draw(st.sampled_from([JobState.SUCCEEDED, JobState.FAILED]))
                    case "kill":
                        runs[at].kill()
                        runs[at] = SteppedRun(spending, parts[at])  # it is executed again
                    case _:
                        pass
                spending.check()
        finally:
            for run in runs:
                run.kill()


def test_the_limit_is_reached_where_there_is_more_to_do() -> None:
    """The property is not held by launching nothing."""
    with fast_folder() as folder, stepping():
        spending = Spending(Lake(str(folder)), [1.0])
        jobs = [job_of(spending.lake, stride, rows=ROWS) for stride in range(9)]
        runs = [SteppedRun(spending, jobs[at : at + 3], pause=1 + 10 * at) for at in (0, 3, 6)]
        while not all(run.over for run in runs):
            for run in runs:
                if not run.over:
                    run.step()
            spending.check()
        assert len(spending.jobs) == LIMIT / EXPECTED
