"""The arithmetic of a plan: rows and tokens → hours → dollars, wall time, strides. No input, no output."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from embed_assets.estimate.figures import Figure, How
from embed_assets.estimate.tokens import Counts
from resources.skypilot.prices import Quote

LOAD_SHARE = 0.03
"""Loading the model may take so much of a job."""
MAX_STRIDES = 10_000
JOBS = (1, 5, 10, 25, 50, 100, 250, 500, 1000)
"""Numbers of jobs at once that the plan shows the wall time of."""
ROW_BYTES = 40
"""A window beside its vector: row id, id, chunk, counts, offsets, after compression."""
VECTOR_SHARE = (0.90, 1.0, 1.0)
"""What compression leaves of a vector."""
LOAD_BYTES_PER_SECOND, LOAD_BASE_SECONDS = 250e6, 40.0
"""Fetching weights; the engine's own start."""


@dataclass(frozen=True)
class Work:
    """What there is to be done, whatever does it."""

    rows: Figure
    tokens: Figure
    """Of all windows, as the manifests count them."""
    computed_tokens: Figure
    """Without the windows that a checkpoint need not compute again."""
    windows: Figure
    output_bytes: Figure | None


@dataclass(frozen=True)
class Starts:
    """What a job spends before its first token."""

    start_seconds: float
    """The worker's environment."""
    load_seconds: Figure
    """The model."""
    once: bool = False
    """The model is loaded once a worker process, not once a job: on this machine."""

    @property
    def seconds(self) -> Figure:
        return self.load_seconds + self.start_seconds

    def of_jobs(self, jobs: int) -> Figure:
        """Seconds that one worker spends on starts when it makes so many jobs, one after another."""
        return self.seconds * float(1 if self.once else jobs)


@dataclass(frozen=True)
class Offer:
    """The whole dataset on one kind of machine. None is unknown; `reason` says why."""

    accelerator: str
    tokens_per_second: Figure | None
    hours: Figure | None
    """Machine hours: the engine's and each job's start."""
    engine_hours: Figure | None
    spot: float | None
    on_demand: float | None
    spot_usd: Figure | None
    on_demand_usd: Figure | None
    wall_hours: Mapping[int, Figure]
    """By number of jobs at once."""
    load_share: float | None
    """Of a job, with the strides that the pipeline has."""
    recommended_strides: int | None
    """The most that keep loading under LOAD_SHARE; None where any number does."""
    checkpoint_seconds: float | None
    preemption_seconds: float | None
    """What one preemption costs: a start, and half a checkpoint."""
    reason: str = ""


def work(rows: Figure, counts: Counts, dimension: int | None, value_bytes: int) -> Work:
    """`value_bytes`: of one element of a stored vector."""
    tokens = rows * counts.tokens_per_row
    windows = rows * counts.windows_per_row
    kept = 1.0 - (counts.duplicates or 0.0)
    computed = Figure(kept * tokens.low, kept * tokens.value, tokens.high, tokens.how)
    output = None
    if dimension is not None:
        low, value, high = (dimension * value_bytes * share + ROW_BYTES for share in VECTOR_SHARE)
        output = windows * Figure(low, value, high, How.ASSUMED)
    return Work(rows, tokens, computed, windows, output)


def load_seconds(stated: float | None, measured: float | None, weight_bytes: float | None) -> Figure:
    if stated is not None:
        return Figure.exact(stated, How.STATED)
    if measured is not None:
        return Figure(0.5 * measured, measured, 1.5 * measured, How.MEASURED)
    value = LOAD_BASE_SECONDS + (weight_bytes or 0.0) / LOAD_BYTES_PER_SECOND
    return Figure(0.5 * value, value, 2 * value, How.ASSUMED)


def offer(
    accelerator: str,
    todo: Work,
    speed: Figure | None,
    quote: Quote,
    starts: Starts,
    strides: int,
    checkpoint_rows: int,
) -> Offer:
    if speed is None:
        return Offer(
            accelerator, None, None, None, quote.spot, quote.on_demand, None, None, {}, None, None, None, None,
            "its speed is unknown: set plan.tokens_per_second",
        )  # fmt: skip
    engine = todo.computed_tokens / speed
    total = engine + starts.of_jobs(strides)
    hours, engine_hours = total / 3600.0, engine / 3600.0
    a_job = engine.value / strides
    load = starts.load_seconds.value
    checkpoint = todo.computed_tokens.value / todo.rows.value * checkpoint_rows / speed.value
    checkpoint = min(checkpoint, a_job)
    return Offer(
        accelerator=accelerator,
        tokens_per_second=speed,
        hours=hours,
        engine_hours=engine_hours,
        spot=quote.spot,
        on_demand=quote.on_demand,
        spot_usd=None if quote.spot is None else hours * quote.spot,
        on_demand_usd=None if quote.on_demand is None else hours * quote.on_demand,
        wall_hours={jobs: wall_hours(engine, starts, strides, jobs) for jobs in job_numbers(strides)},
        load_share=load / (load + (engine.value if starts.once else a_job)),
        recommended_strides=None if starts.once else recommended_strides(engine.value, load, todo.rows.value),
        checkpoint_seconds=checkpoint,
        preemption_seconds=starts.seconds.value + checkpoint / 2,
        reason=quote.reason,
    )


def wall_hours(engine_seconds: Figure, starts: Starts, strides: int, jobs: int) -> Figure:
    """Hours until the last of `strides` jobs is done, `jobs` at once, all alike."""
    rounds = math.ceil(strides / jobs)
    return (engine_seconds * (rounds / strides) + starts.of_jobs(rounds)) / 3600.0


def job_numbers(strides: int) -> list[int]:
    return [*(jobs for jobs in JOBS if jobs < strides), strides]


def recommended_strides(engine_seconds: float, load: float, rows: float) -> int:
    """The most strides at which loading the model stays under LOAD_SHARE of a job; at least one."""
    most = engine_seconds * LOAD_SHARE / ((1 - LOAD_SHARE) * load) if load > 0 else MAX_STRIDES
    return int(max(1, min(most, MAX_STRIDES, rows)))


def total(figures: Sequence[Figure | None]) -> Figure | None:
    """The sum; None where a part is not known."""
    known = [figure for figure in figures if figure is not None]
    if not known or len(known) < len(figures):
        return None
    summed = known[0]
    for figure in known[1:]:
        summed = summed + figure
    return summed
