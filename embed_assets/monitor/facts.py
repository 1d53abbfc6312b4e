"""What the monitor keeps of a lake's manifests: a few figures each, all of them within reason."""

import re
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, ValidationError

from embed_worker.lake.heartbeats import Attempt, Hardware
from embed_worker.lake.layout import DATASET_NAME, Partitioning, ShardId, shards_folder
from embed_worker.lake.lenient import Count, Lenient, Moment, Number, Price, Text
from embed_worker.lake.manifests import ShardManifest, StridesManifest

DATASET = re.compile(rf"(?=.{{1,63}}\Z){DATASET_NAME}")
SPEC_ID = re.compile(r"[a-z0-9-]+")


@dataclass(frozen=True, order=True)
class RunKey:
    """One coherent set of vectors: a dataset's snapshot cut in N, embedded by one spec."""

    dataset: str
    spec_id: str
    partitioning: str

    @classmethod
    def of(cls, shard: ShardId) -> "RunKey":
        return cls(shard.dataset, shard.spec_id, shard.partitioning.name)

    def shard(self, stride: int) -> ShardId:
        return ShardId.of(self.dataset, self.spec_id, Partitioning.parse(self.partitioning), stride)

    @property
    def folder(self) -> str:
        return shards_folder(self.dataset, self.spec_id, Partitioning.parse(self.partitioning))


class Shard(Lenient):
    """A committed partition, as its manifest tells."""

    rows: Count = 0
    rejected: Count = 0
    tokens: Count = 0
    created_at: Moment | None = None
    seconds: Number | None = None
    attempts: tuple[str, ...] = ()
    starts: Count = 0
    accelerator: Text | None = None
    region: Text | None = None
    price_per_hour: Price | None = None

    @property
    def created(self) -> float | None:
        return self.created_at.timestamp() if self.created_at else None

    @classmethod
    def of(cls, manifest: ShardManifest) -> "Shard":
        attempts = attempts_of(manifest)
        return cls.model_validate(
            {
                "rows": manifest.rows_in,
                "rejected": manifest.rows_rejected,
                "tokens": manifest.tokens,
                "created_at": manifest.created_at,
                "seconds": manifest.seconds.get("total"),
                "attempts": tuple(attempt.attempt for attempt in attempts),
                "starts": sum(attempt.begins_a_start for attempt in attempts),
                "accelerator": accelerator_of(Hardware.model_validate(manifest.hardware)),
                "region": next((a.region for a in reversed(attempts) if a.region), None),
                "price_per_hour": next((a.price_per_hour for a in reversed(attempts) if a.price_per_hour), None),
            }
        )


class Strides(BaseModel):
    """What is to be embedded: rows by stride."""

    model_config = ConfigDict(frozen=True)

    dataset: str
    partitioning: str
    created_at: str
    rows: tuple[Count, ...]

    @classmethod
    def of(cls, partitioning: Partitioning, manifest: StridesManifest) -> "Strides":
        """Raises ValueError where a number is beyond all reason."""
        return cls(
            dataset=manifest.dataset,
            partitioning=partitioning.name,
            created_at=manifest.created_at,
            rows=tuple(entry.rows for entry in manifest.strides),
        )


def attempts_of(manifest: ShardManifest) -> list[Attempt]:
    """Those that can be read."""
    found = []
    for value in manifest.attempts:
        try:
            found.append(Attempt.model_validate(value))
        except ValidationError:
            continue
    return found


def accelerator_of(hardware: Hardware | None) -> str | None:
    """`NVIDIA L4`, the same with its count before it, or `CPU, 8 cores`; None before the worker has looked."""
    if hardware is None:
        return None
    if hardware.gpus:
        name = hardware.gpus[0]
        return name if len(hardware.gpus) == 1 else f"{len(hardware.gpus)}× {name}"
    return f"CPU, {hardware.cores} cores" if hardware.cores else "CPU"
