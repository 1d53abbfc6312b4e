"""Status tells what each partition does."""

import json

from embed_assets.upkeep.status import PartitionState, pipeline_status
from embed_worker.lake.manifests import now
from tests.kits.pipelines import Prepared


def test_status_tells_committed_running_silent_and_waiting(prepared: Prepared) -> None:
    def states() -> list[PartitionState]:
        return list(pipeline_status(prepared.resource, prepared.pipeline)[0].partitions.values())

    assert states() == [PartitionState.COMMITTED, PartitionState.COMMITTED, PartitionState.WAITING]
    beat = {"spec_id": prepared.pipeline.embedding.spec_id, "partitioning": prepared.partitioning.name,
            "partition": "d-00002", "phase": "embedding", "at": now()}  # fmt: skip
    prepared.store.replace("progress/d-00002/a.json", json.dumps(beat).encode())
    assert states()[2] is PartitionState.RUNNING
    prepared.store.replace("progress/d-00002/a.json", json.dumps({**beat, "at": "2020-01-01T00:00:00+00:00"}).encode())
    assert states()[2] is PartitionState.SILENT
