"""What the JSON API answers. Seconds and dollars; null is not known, never 0 for it."""

from pydantic import BaseModel, ConfigDict, Field

from embed_assets.monitor.states import State


class _Answer(BaseModel):
    model_config = ConfigDict(use_attribute_docstrings=True, frozen=True)


class Partition(_Answer):
    """One embedding partition."""

    key: str
    dataset: str
    run: str
    """`dataset/spec_id/cut`"""
    stride: int
    state: State
    rows: int
    rows_done: int
    tokens: int
    rows_per_second: float | None = None
    eta_seconds: float | None = None
    attempts: int = 0
    """Starts so far; several engines of one node are one."""
    recoveries: int = 0
    submitted: bool = False
    """A job file is there."""
    straggler: bool = False
    age_seconds: float | None = None
    """Since its last heartbeat."""
    phase: str | None = None
    ending: str | None = None
    """Of the last attempt, where it has stopped: `preempted`, `failed` (it may be retried), `bad_job` (it is not)."""
    error: str | None = None
    """Why the last attempt ended, or no other is made; of a damaged one, what is wrong and what mends it."""
    accelerator: str | None = None
    region: str | None = None
    rejected: int | None = None
    seconds: float | None = None
    """Of the attempt that committed it."""
    cost_usd: float | None = None
    """All its jobs so far; null while any is not known."""


class Worker(_Answer):
    """One attempt that is alive, or that has fallen silent."""

    attempt: str
    partition: str
    dataset: str
    state: str
    """`working`, `loading`, `silent`"""
    phase: str
    host: str | None
    lane: str | None
    job: str | None
    cloud: str | None
    region: str | None
    zone: str | None
    accelerator: str | None
    spot: bool | None
    rows: int
    rows_done: int
    rows_per_second: float | None
    tokens_per_second: float | None
    age_seconds: float
    seconds: float
    recoveries: int
    number: int
    """Which start of its partition it is, from 1."""
    straggler: bool
    price_per_hour: float | None


class Region(_Answer):
    """Workers and committed partitions of one region."""

    region: str
    workers: int
    silent: int
    committed: int
    rows_per_second: float


class Spend(_Answer):
    """Dollars of jobs whose cost is known, with the count of those that are not in the sum."""

    usd: float | None = None
    on_demand_usd: float | None = None
    known_jobs: int = 0
    unknown_jobs: int = 0
    projected_usd: float | None = None
    """At the end, at the mean cost of a row so far; null while anything is not known."""
    usd_per_hour: float | None = None


class RunProgress(_Answer):
    """One dataset embedded by one spec."""

    run: str
    dataset: str
    spec_id: str
    partitioning: str
    current: bool
    """Of the latest snapshot and the most recent spec; only these are in the totals."""
    rows: int
    rows_done: int
    counts: dict[State, int]


class DamagedFile(_Answer):
    """A manifest of a snapshot or of strides, or a pointer, that cannot be read."""

    path: str
    what: str
    """What is wrong, and what mends it."""


class Progress(_Answer):
    """The whole at a glance."""

    at: float
    """When the lake was looked at, seconds since the epoch."""
    revision: int
    lake: str
    scan_seconds: float
    interval_seconds: float
    error: str | None = None
    """Why the lake could not be read since; the rest is then of the last good look."""
    rows: int = 0
    rows_done: int = 0
    tokens_done: int = 0
    partitions: int = 0
    counts: dict[State, int] = Field(default_factory=dict)
    rows_per_second: float | None = None
    tokens_per_second: float | None = None
    eta_seconds: float | None = None
    eta_low_seconds: float | None = None
    eta_high_seconds: float | None = None
    workers: int = 0
    silent_workers: int = 0
    stragglers: int = 0
    recoveries: int = 0
    failed_attempts: int = 0
    """Partitions, not committed, whose last attempt failed: those that have failed, and those that may be retried."""
    damages: list[DamagedFile] = Field(default_factory=list)
    spend: Spend = Field(default_factory=Spend)
    regions: list[Region] = Field(default_factory=list)
    runs: list[RunProgress] = Field(default_factory=list)


class Sample(_Answer):
    """A moment of the history."""

    at: float
    rows_done: int
    tokens_done: int
    rows_per_second: float
    tokens_per_second: float
    workers: int | None
    """Null before this process watched: then the rates are those of the commits."""


class Partitions(_Answer):
    """Every partition of the current runs, or of one run."""

    revision: int
    partitions: list[Partition]


class Workers(_Answer):
    """Every attempt that is alive or silent."""

    revision: int
    workers: list[Worker]


class History(_Answer):
    """Oldest first; older ones lie further apart."""

    revision: int
    samples: list[Sample]
