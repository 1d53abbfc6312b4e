"""A shard's manifest with the figures that a test chooses."""

from typing import Any

from embed_worker.lake.layout import Partitioning, ShardId
from embed_worker.lake.manifests import InputRef, ShardManifest
from tests.kits import pipelines as kit

PARTITIONING = Partitioning("stride", 10)


def shard_manifest(**changes: Any) -> ShardManifest:
    """Of no files; what is not said is 0 or empty."""
    spec = kit.spec()
    values: dict[str, Any] = {
        "pipeline": "p", "shard": ShardId.of("d", spec.spec_id, PARTITIONING, 3, "0d"), "spec": spec,
        "input": InputRef(path="x", digest="0d", rows=0), "files": [], "rows_in": 0, "rows_embedded": 0,
        "rows_rejected": 0, "windows": 0, "tokens": 0, "duplicate_windows": 0, "dimension": 32, "dtype": "float32",
        "canaries": None, "checkpoint_rows": 4, "checkpoints": 0, "engine": {}, "hardware": {}, "attempts": [],
        "seconds": {},
    }  # fmt: skip
    values |= changes
    values["input"] = values["input"].model_copy(
        update={"rows": values["rows_in"], "digest": values["shard"].input_digest}
    )
    return ShardManifest(**values)
