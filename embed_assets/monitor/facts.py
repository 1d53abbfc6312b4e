"""What the lake's files say, taken with care: every number finite, every text cut, every name one that fits a path."""

import math
import re
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from embed_worker.lake.layout import DATASET_NAME, Partitioning, shards_folder

TEXT = 300
DATASET = re.compile(DATASET_NAME)
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,199}")


@dataclass(frozen=True, order=True)
class RunKey:
    """One coherent set of vectors: a dataset's snapshot cut in N, embedded by one spec."""

    dataset: str
    spec_id: str
    partitioning: str

    @property
    def folder(self) -> str:
        return shards_folder(self.dataset, self.spec_id, Partitioning.parse(self.partitioning))


@dataclass(frozen=True)
class Beat:
    """A heartbeat. Times in seconds, `at` since the epoch; what it does not say is None."""

    run: RunKey
    partition: str
    stride: int
    attempt: str
    pipeline: str
    phase: str
    at: float | None
    rows: int
    rows_done: int
    tokens_done: int
    rows_own: int | None
    """Rows that this attempt made, where the worker tells them apart from those it found."""
    tokens_own: int | None
    seconds: float
    phase_seconds: float | None
    every_seconds: float | None
    ending: str | None
    error: str | None
    host: str | None
    lane: str | None
    job: str | None
    cloud: str | None
    region: str | None
    zone: str | None
    accelerator: str | None
    spot: bool | None
    price_per_hour: float | None

    @property
    def over(self) -> bool:
        return self.phase in ("committed", "stopped")


@dataclass(frozen=True)
class Shard:
    """A committed partition, as its manifest tells."""

    rows: int
    rejected: int
    tokens: int
    created: float | None
    seconds: float | None
    attempts: tuple[str, ...]
    starts: int
    accelerator: str | None
    region: str | None
    price_per_hour: float | None


@dataclass(frozen=True)
class Cost:
    """A job, over or still running. `usd` None: not known."""

    dataset: str
    spec_id: str
    partition: str
    job: str
    usd: float | None
    on_demand_usd: float | None
    spot: bool | None = None
    per_hour: float | None = None


@dataclass(frozen=True)
class Strides:
    """What is to be embedded: rows by stride."""

    dataset: str
    partitioning: str
    created: float
    rows: tuple[int, ...] = field(default=())


def beat_of(value: Any) -> Beat | None:
    """None where it is no heartbeat of a partition."""
    if not isinstance(value, dict):
        return None
    run = run_of(value.get("dataset"), value.get("spec_id"), value.get("partitioning"))
    partition, attempt = text(value.get("partition")), text(value.get("attempt"))
    if run is None or partition is None or attempt is None or not NAME.fullmatch(partition):
        return None
    dataset, _, stride = partition.rpartition("-")
    if dataset != run.dataset or not re.fullmatch(r"[0-9]{1,9}", stride):
        return None
    hardware = value.get("hardware")
    spot = value.get("spot")
    return Beat(
        run=run,
        partition=partition,
        stride=int(stride),
        attempt=attempt,
        pipeline=text(value.get("pipeline")) or "",
        phase=text(value.get("phase")) or "unknown",
        at=moment(value.get("at")),
        rows=count(value.get("rows")) or 0,
        rows_done=count(value.get("rows_done")) or 0,
        tokens_done=count(value.get("tokens_done")) or 0,
        rows_own=count(value.get("rows_own")),
        tokens_own=count(value.get("tokens_own")),
        seconds=number(value.get("seconds")) or 0.0,
        phase_seconds=number(value.get("phase_seconds")),
        every_seconds=number(value.get("every_seconds")),
        ending=text(value.get("ending")),
        error=text(value.get("error")),
        host=text(value.get("host")),
        lane=text(value.get("lane")),
        job=text(value.get("skypilot_job_id")),
        cloud=text(value.get("cloud")),
        region=text(value.get("region")),
        zone=text(value.get("zone")),
        accelerator=accelerator_of(hardware),
        spot=spot if isinstance(spot, bool) else None,
        price_per_hour=price(value.get("price_per_hour")),
    )


def shard_of(value: Any) -> Shard | None:
    if not isinstance(value, dict):
        return None
    listed = value.get("attempts")
    attempts = [a for a in listed if isinstance(a, dict)] if isinstance(listed, list) else []
    seconds, hardware = value.get("seconds"), value.get("hardware")
    places = [a for a in attempts if a.get("region")]
    prices = [price(a.get("price_per_hour")) for a in attempts]
    if isinstance(hardware, dict):
        prices.append(price(hardware.get("price_per_hour")))
    return Shard(
        rows=count(value.get("rows_in")) or 0,
        rejected=count(value.get("rows_rejected")) or 0,
        tokens=count(value.get("tokens")) or 0,
        created=moment(value.get("created_at")),
        seconds=number(seconds.get("total")) if isinstance(seconds, dict) else None,
        attempts=tuple(name for a in attempts if (name := text(a.get("attempt")))),
        starts=sum(1 for a in attempts if str(a.get("lane", "1 of")).startswith("1 of")),
        accelerator=accelerator_of(hardware),
        region=text(places[-1].get("region")) if places else None,
        price_per_hour=next((p for p in reversed(prices) if p is not None), None),
    )


def cost_of(value: Any) -> Cost | None:
    if not isinstance(value, dict):
        return None
    names = [text(value.get(key)) for key in ("dataset", "spec_id", "partition", "job")]
    if None in names:
        return None
    dataset, spec_id, partition, job = (str(name) for name in names)
    usd, on_demand = number(value.get("usd")), number(value.get("on_demand_usd"))
    spot = value.get("spot") if isinstance(value.get("spot"), bool) else None
    return Cost(dataset, spec_id, partition, job, usd, on_demand, spot, price(value.get("dollars_per_hour")))


def strides_of(dataset: str, partitioning: str, value: Any) -> Strides | None:
    entries = value.get("strides") if isinstance(value, dict) else None
    if not isinstance(entries, list):
        return None
    rows = tuple(count(e.get("rows")) or 0 if isinstance(e, dict) else 0 for e in entries)
    return Strides(dataset, partitioning, moment(value.get("created_at")) or 0.0, rows)


def run_of(dataset: Any, spec_id: Any, partitioning: Any) -> RunKey | None:
    """None where one of the three could lead out of its folder."""
    if not (isinstance(dataset, str) and DATASET.fullmatch(dataset) and len(dataset) <= 63):
        return None
    if not (isinstance(spec_id, str) and NAME.fullmatch(spec_id)):
        return None
    try:
        return RunKey(dataset, spec_id, Partitioning.parse(str(partitioning)).name)
    except ValueError:
        return None


def accelerator_of(hardware: Any) -> str | None:
    """`NVIDIA L4`, the same with its count before it, or `CPU, 8 cores`."""
    if not isinstance(hardware, dict):
        return None
    gpus = hardware.get("gpus")
    if isinstance(gpus, list) and gpus:
        name = text(gpus[0]) or "GPU"
        return name if len(gpus) == 1 else f"{len(gpus)}× {name}"
    cores = count(hardware.get("cores"))
    return f"CPU, {cores} cores" if cores else "CPU"


def text(value: Any) -> str | None:
    if value is None or isinstance(value, dict | list):
        return None
    return str(value)[:TEXT] or None


def number(value: Any) -> float | None:
    """A finite number from 0 on."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) and 0 <= value < 1e18 else None


def count(value: Any) -> int | None:
    found = number(value)
    return None if found is None else int(found)


def price(value: Any) -> float | None:
    """0 is what systems write that do not know."""
    return number(value) or None


def moment(value: Any) -> float | None:
    try:
        return datetime.fromisoformat(value).timestamp() if isinstance(value, str) else None
    except (ValueError, OverflowError):
        return None
