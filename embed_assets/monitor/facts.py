"""What the monitor keeps of a lake's manifests: a few figures each, all of them within reason."""

import re
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

from embed_worker.lake.figures import figures_of
from embed_worker.lake.layout import (
    DATASET_NAME,
    DELTA,
    Partitioning,
    ShardId,
    delta_key,
    partition_key,
    shards_folder,
)
from embed_worker.lake.lenient import Count, Lenient, Moment, Number, Price, Text
from embed_worker.lake.manifests import ShardManifest, StridesManifest

DATASET = re.compile(rf"(?=.{{1,63}}\Z){DATASET_NAME}")
SPEC_ID = re.compile(r"[a-z0-9-]+")


@dataclass(frozen=True, order=True)
class RunKey:
    """One coherent set of vectors: a dataset's rows cut in N, embedded by one spec."""

    dataset: str
    spec_id: str
    cut: str
    """Ingest id and partitioning: `0a1b2c3d4e5f-content-00500`."""

    @property
    def partitioning(self) -> Partitioning:
        return Partitioning.parse(self.cut.split("-", 1)[1])

    @property
    def folder(self) -> str:
        return shards_folder(self.dataset, self.spec_id, self.partitioning)


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
        figures = figures_of(manifest)
        return cls.model_validate(
            {
                "rows": manifest.rows_in,
                "rejected": manifest.rows_rejected,
                "tokens": manifest.tokens,
                "created_at": manifest.created_at,
                "seconds": manifest.seconds.get("total"),
                "attempts": tuple(attempt.attempt for attempt in manifest.attempts),
                "starts": figures.starts,
                "accelerator": figures.machine,
                "region": figures.region,
                "price_per_hour": figures.price_per_hour,
            }
        )


class Strides(BaseModel):
    """What is to be embedded: rows by stride, of the newest snapshot that is cut so."""

    model_config = ConfigDict(frozen=True)

    dataset: str
    cut: str
    snapshot: str
    created_at: str
    rows: tuple[Count, ...]
    digests: tuple[str, ...]

    @classmethod
    def of(cls, manifest: StridesManifest) -> "Strides":
        """Raises ValueError where a number is beyond all reason."""
        return cls(
            dataset=manifest.dataset,
            cut=f"{manifest.ingest_id}-{manifest.partitioning.name}",
            snapshot=manifest.snapshot,
            created_at=manifest.created_at,
            rows=tuple(entry.rows for entry in manifest.strides),
            digests=tuple(entry.digest for entry in manifest.strides),
        )

    def shard(self, spec_id: str, stride: int) -> ShardId:
        partitioning = Partitioning.parse(self.cut.split("-", 1)[1])
        return ShardId.of(self.dataset, spec_id, partitioning, stride, self.digests[stride])

    @property
    def of_delta(self) -> bool:
        """Whether they are what a delta adds."""
        return self.cut.endswith(f"-{DELTA}")

    def key(self, stride: int) -> str:
        """Of the partition."""
        return delta_key(self.dataset) if self.of_delta else partition_key(self.dataset, stride)

    def has(self, shard: ShardId) -> bool:
        """Whether a shard is of these rows."""
        return shard.stride < len(self.digests) and self.digests[shard.stride] == shard.input_digest
