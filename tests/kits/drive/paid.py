"""A driver's bench whose jobs have rows and cost money."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from embed_assets.drive.events import Committed, Failed
from embed_assets.estimate.budget import RunBudget
from resources.compute import JobHandle, JobState, JobStatus
from resources.facts import JobFacts
from tests.kits.drive.bench import DriverBench, job_of

ROWS = 100


def bench(folder: Path, strides: int | Sequence[int], **options: Any) -> DriverBench:
    """A bench whose partitions have rows."""
    numbers = range(strides) if isinstance(strides, int) else strides
    made = DriverBench(folder, len(numbers), **options)
    made.jobs = [job_of(made.lake, stride, rows=ROWS) for stride in numbers]
    return made


def allowed(made: DriverBench, limit: float | None, per_row: float | None = None, why: str = "the plan") -> RunBudget:
    return RunBudget(made.lake, "p", limit, lambda _: (per_row, why))


def paid(made: DriverBench, dollars: float | None, on_demand: float | None = None, each_poll: float = 0.0) -> None:
    """Each job costs so much at its end, which is its second poll; while it runs, `each_poll`."""
    made.states("running", "succeeded+commit")
    real = made.compute.poll

    def poll(handles: Any) -> dict[JobHandle, JobStatus]:
        found = real(handles)
        for handle, status in found.items():
            cost = dollars if status.state is JobState.SUCCEEDED else each_poll
            unknown = {} if cost is not None else {"cost_dollars": "no price list"}
            status.facts = JobFacts(
                id=handle.id, cost_dollars=cost, on_demand_dollars=on_demand, spot=True, unknown=unknown
            )
        return found

    made.compute.poll = poll  # type: ignore[method-assign]


def run(made: DriverBench, of: RunBudget) -> tuple[list[str], list[Failed], str]:
    outcomes = made.run(budget=of)
    committed = [o.job.shard.key for o in outcomes if isinstance(o, Committed)]
    failed = [o for o in outcomes if isinstance(o, Failed)]
    return committed, failed, made.told
