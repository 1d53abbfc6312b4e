"""What a committed shard tells in the Dagster UI."""

from collections.abc import Mapping
from typing import Any

import dagster as dg

from embed_assets.driver import Committed
from embed_assets.lineage import shard_lineage, shard_schema
from embed_worker.job import EmbedJob
from embed_worker.manifests import ShardManifest
from embed_worker.starts import begins_a_start
from resources.lake import LakeResource


def shard_metadata(lake: LakeResource, job: EmbedJob, outcome: Committed, stride_key: dg.AssetKey) -> dict[str, Any]:
    """Figures of the manifest and of the job. Numbers stay numbers: the UI plots them over partitions."""
    manifest = outcome.manifest
    metadata: dict[str, Any] = {
        "dagster/row_count": manifest.rows_embedded,
        "dagster/uri": lake.url(job.output),
        "dagster/column_schema": shard_schema(manifest),
        "dagster/column_lineage": shard_lineage(stride_key),
        "adopted": outcome.adopted,
        "rows_in": manifest.rows_in,
        "rows_rejected": manifest.rows_rejected,
        "rejects_by_reason": manifest.rejects_by_reason,
        "windows": manifest.chunks,
        "windows_not_computed_twice": manifest.duplicate_chunks,
        "tokens": manifest.tokens,
        **_rates(manifest),
        "dimension": manifest.dimension,
        "dtype": manifest.dtype,
        "seconds": manifest.seconds,
        "attempts": sum(map(begins_a_start, manifest.attempts)),
        "attempt_list": manifest.attempts,
        "checkpoints": manifest.checkpoints,
        "hardware": manifest.hardware,
        "engine": manifest.engine,
        "model": manifest.spec.model,
        "spec_id": manifest.spec_id,
        "input": lake.url(manifest.input.path),
        "input_digest": manifest.input.digest,
        "manifest": lake.url(job.manifest_path),
        "files": len(manifest.files),
        "bytes": sum(file.bytes for file in manifest.files),
        "committed_at": dg.MetadataValue.text(manifest.created_at),
    }
    if outcome.status is not None:
        metadata["jobs_in_this_run"] = outcome.attempts
        metadata["seconds_submit_to_commit"] = round(outcome.elapsed, 2)
        metadata |= _job_facts(outcome.status.facts)
    if task_id := next((a["skypilot_task_id"] for a in reversed(manifest.attempts) if "skypilot_task_id" in a), None):
        metadata["job_task_id"] = task_id
    return metadata


def _rates(manifest: ShardManifest) -> dict[str, float]:
    seconds = manifest.seconds.get("engine", 0.0)
    if seconds <= 0:
        return {}
    return {
        "rows_per_second": round(manifest.rows_embedded / seconds, 2),
        "tokens_per_second": round(manifest.tokens / seconds, 1),
    }


def _job_facts(facts: Mapping[str, Any]) -> dict[str, Any]:
    """What is not known says so, with its reason; it is never a 0 or an empty field."""
    told = {}
    for name, value in facts.items():
        if name.endswith("_reason"):
            continue
        if value is None:
            value = f"unknown: {facts.get(f'{name}_reason') or 'the backend does not say'}"
        elif name == "dashboard":
            value = dg.MetadataValue.url(value)
        told[f"job_{name}"] = value
    return told
