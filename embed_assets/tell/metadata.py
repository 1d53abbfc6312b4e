"""What a committed shard tells in the Dagster UI."""

from collections.abc import Sequence
from typing import Any

import dagster as dg

from embed_assets.drive.events import Committed
from embed_assets.tell.lineage import shard_lineage, shard_schema
from embed_assets.tell.summary import shard_summary
from embed_worker.lake.figures import ShardFigures, figures_of
from embed_worker.lake.manifests import ShardManifest
from resources.facts import JobFacts
from resources.lake import Lake

PLOTTED = ("job_recoveries", "job_cost_dollars")
"""Facts of a job that one compares over partitions."""


def shard_metadata(
    lake: Lake,
    outcome: Committed,
    stride_key: dg.AssetKey,
    *,
    rates: Sequence[float] = (),
    monitor_url: str | None = None,
) -> dict[str, Any]:
    """Figures of the manifest and of the job. Numbers stay numbers: the UI plots them over partitions.

    `rates`: tokens a second of the run's partitions so far, this one last.
    """
    manifest, shard, figures = outcome.manifest, outcome.job.shard, figures_of(outcome.manifest)
    facts = outcome.status.facts if outcome.status else JobFacts()
    links = {"job": facts.dashboard or "", "page": monitor_url or "", "files": lake.url(shard.folder)}
    metadata: dict[str, Any] = {
        "summary": dg.MetadataValue.md(
            shard_summary(manifest, facts, {name: to for name, to in links.items() if to}, rates)
        ),
        "dagster/partition_row_count": manifest.rows_with_vector,
        "dagster/uri": lake.url(shard.folder),
        "dagster/column_schema": shard_schema(manifest),
        "dagster/column_lineage": shard_lineage(stride_key),
        "rows_embedded": manifest.rows_embedded,
        "rows_reused": manifest.rows_reused,
        "rows_rejected": manifest.rows_rejected,
        "windows": manifest.windows,
        "tokens": manifest.tokens,
        **_rates(figures),
        "engine_seconds": round(figures.engine_seconds, 2),
        "starts": figures.starts,
        "next": "embedding_set of the dataset, once all its partitions are green",
    }
    details: dict[str, Any] = {
        "adopted": outcome.adopted,
        "rows_in": manifest.rows_in,
        "rejects_by_reason": manifest.rejects_by_reason,
        "reused": [one.model_dump() for one in manifest.reused],
        "not_reused": manifest.unusable,
        "tokens_embedded": manifest.tokens_embedded,
        "duplicate_windows": manifest.duplicate_windows,
        "dimension": manifest.dimension,
        "dtype": manifest.dtype,
        "seconds_by_phase": manifest.seconds,
        "attempts": [attempt.note() for attempt in manifest.attempts],
        "checkpoints": manifest.checkpoints,
        "hardware": manifest.hardware.note(),
        "engine": manifest.engine,
        "engine_of": manifest.engine_of,
        "model": manifest.spec.model,
        "spec_id": shard.spec_id,
        "input": lake.url(manifest.input.path),
        "input_digest": manifest.input.digest,
        "manifest": lake.url(shard.manifest_path),
        "files": len(manifest.files),
        "bytes": sum(file.bytes for file in manifest.files),
        "committed_at": manifest.created_at,
    }
    if outcome.status is not None:
        details |= {"jobs_in_this_run": outcome.attempts, "seconds_submit_to_commit": round(outcome.elapsed, 2)}
        told = {f"job_{name}": value for name, value in facts.told().items()}
        metadata |= {name: told.pop(name) for name in PLOTTED if name in told} | _cost_rates(manifest, facts)
        details |= told
        if facts.dashboard:
            metadata["job_dashboard"] = dg.MetadataValue.url(facts.dashboard)
    if task_id := next((a.skypilot_task_id for a in reversed(manifest.attempts) if a.skypilot_task_id), None):
        details["job_task_id"] = task_id
    return {**metadata, "details": details}


def _rates(figures: ShardFigures) -> dict[str, float]:
    rates = {"rows_per_second": figures.rows_per_second, "tokens_per_second": figures.tokens_per_second}
    return {name: round(rate, 2) for name, rate in rates.items() if rate is not None}


def _cost_rates(manifest: ShardManifest, facts: JobFacts) -> dict[str, float]:
    cost, on_demand = facts.cost_dollars, facts.on_demand_dollars
    if cost is None:
        return {}
    found = {} if on_demand is None else {"job_saved_dollars": round(on_demand - cost, 4)}
    if manifest.tokens_embedded:
        found["dollars_per_million_tokens"] = round(cost / manifest.tokens_embedded * 1e6, 6)
    return found
