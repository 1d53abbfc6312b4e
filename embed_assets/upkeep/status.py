"""How far each dataset of a pipeline is, from manifests and heartbeats alone."""

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum

from embed_assets.spec import EmbeddingPipeline
from embed_worker.lake import census, layout
from embed_worker.lake.parallel import in_parallel
from resources.lake import Lake

SILENT_SECONDS = 60.0
"""A heartbeat older than this does not count as running."""


class PartitionState(StrEnum):
    """Where a partition is, as far as the lake shows."""

    COMMITTED = "committed"
    RUNNING = "running"
    SILENT = "silent"
    """It has begun, but nothing was heard of it for a minute: stopped, preempted or killed."""
    WAITING = "waiting"


@dataclass
class DatasetStatus:
    """One dataset of a pipeline."""

    pipeline: str
    dataset: str
    snapshot: str | None = None
    rows: int = 0
    rejects: int = 0
    strides_written: bool = False
    partitions: dict[str, PartitionState] = field(default_factory=dict)
    rows_embedded: int = 0
    rows_rejected: int = 0
    vectors: int = 0
    tokens: int = 0

    @property
    def counts(self) -> Counter[PartitionState]:
        return Counter(self.partitions.values())


def pipeline_status(lake: Lake, pipeline: EmbeddingPipeline) -> list[DatasetStatus]:
    """The state of each dataset's newest snapshot."""
    beats: dict[str, float] = {}
    spec_id = pipeline.embedding.spec_id
    for _, state in census.heartbeats(lake.store):
        if state.get("spec_id") == spec_id:
            partition = f"{state.get('partitioning')}/{state.get('partition')}"
            beats[partition] = min(census.age_seconds(state), beats.get(partition, float("inf")))
    found = []
    for dataset in pipeline.datasets:
        status = DatasetStatus(pipeline.name, dataset.name)
        found.append(status)
        status.partitions = dict.fromkeys(dataset.partition_keys(), PartitionState.WAITING)
        raw = lake.latest_snapshot(dataset.name)
        if raw is None:
            continue
        status.snapshot, status.rows, status.rejects = raw.snapshot, raw.rows, sum(raw.rejects_by_reason.values())
        partitioning = dataset.partitioning_of(raw.snapshot)
        status.strides_written = lake.strides(dataset.name, partitioning) is not None
        shards = [layout.ShardId.of(dataset.name, spec_id, partitioning, i) for i in range(dataset.strides)]
        for key, manifest in zip(status.partitions, in_parallel(lake.shard, shards), strict=True):
            if manifest is not None:
                status.partitions[key] = PartitionState.COMMITTED
                status.rows_embedded += manifest.rows_embedded
                status.rows_rejected += manifest.rows_rejected
                status.vectors += manifest.windows
                status.tokens += manifest.tokens
            elif (age := beats.get(f"{partitioning.name}/{key}")) is not None:
                running = age < SILENT_SECONDS
                status.partitions[key] = PartitionState.RUNNING if running else PartitionState.SILENT
    return found
