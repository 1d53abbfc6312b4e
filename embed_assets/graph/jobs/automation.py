"""What launches a pipeline's update by itself, as `automation` in its file says."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

import dagster as dg

from embed_assets.spec import DatasetSpec, EmbeddingPipeline
from embed_worker.lake.errors import LakeError
from embed_worker.lake.spec import digest_of
from embed_worker.steps.errors import SourceError
from embed_worker.steps.source import find
from resources.lake import Lake

SECONDS = 60
"""Between two looks at the sources."""


def condition(pipeline: EmbeddingPipeline) -> dg.AutomationCondition[Any] | None:
    """Of each asset, with `automation: conditions`: partitions of which an input has another data version."""
    if pipeline.automation != "conditions":
        return None
    changed = dg.AutomationCondition.any_deps_match(dg.AutomationCondition.data_version_changed())
    return changed.since_last_handled() & ~dg.AutomationCondition.in_progress()


def build_schedules(pipeline: EmbeddingPipeline, update: dg.JobDefinition) -> list[dg.ScheduleDefinition]:
    """With `automation: cron`."""
    if pipeline.automation != "cron" or pipeline.cron is None:
        return []
    return [
        dg.ScheduleDefinition(
            name=f"{pipeline.name}__nightly",
            job=update,
            cron_schedule=pipeline.cron,
            execution_timezone=pipeline.cron_timezone,
            default_status=dg.DefaultScheduleStatus.RUNNING,
            description=f"Launches {update.name}, as the pipeline's `cron` says.",
        )
    ]


def build_sensors(pipeline: EmbeddingPipeline, update: dg.JobDefinition) -> list[dg.SensorDefinition]:
    """With `automation: sensor`."""
    if pipeline.automation != "sensor":
        return []

    @dg.sensor(
        name=f"{pipeline.name}__sources",
        job=update,
        minimum_interval_seconds=SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Launches {update.name} for the datasets whose files have changed. It lists, and opens none.",
    )
    def sources(context: dg.SensorEvaluationContext, lake: dg.ResourceParam[Lake]) -> dg.SensorResult:
        unfinished = [dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED]
        if context.instance.get_runs(dg.RunsFilter(job_name=update.name, statuses=unfinished), limit=1):
            return dg.SensorResult(skip_reason=f"{update.name} is running", cursor=context.cursor)
        known: dict[str, str] = json.loads(context.cursor or "{}")
        seen, faults = _seen(pipeline.datasets)
        for text in faults:
            context.log.error(text)
        changed = [name for name in seen if known.get(name) != seen[name]]
        changed = [name for name in changed if name in known or not _is_taken(lake, pipeline.dataset(name), seen[name])]
        cursor = json.dumps(known | seen)
        if not changed:
            return dg.SensorResult(skip_reason="; ".join(faults) or "no source has changed", cursor=cursor)
        config = {"ops": {f"{update.name}_op": {"config": {"datasets": changed}}}}
        key = digest_of([[name, seen[name]] for name in changed], length=16)
        return dg.SensorResult(run_requests=[dg.RunRequest(run_key=key, run_config=config)], cursor=cursor)

    return [sources]


def _seen(datasets: Iterable[DatasetSpec]) -> tuple[dict[str, str], list[str]]:
    """The stamp of each source that can be listed, and why others cannot."""
    seen, faults = {}, []
    for dataset in datasets:
        try:
            seen[dataset.name] = _stamp((file.url, file.stamp()) for file in find(dataset).files)
        except SourceError as error:
            faults.append(str(error))
        except Exception as error:  # as many kinds as there are stores
            faults.append(f"dataset {dataset.name}: {type(error).__name__}: {error}")
    return seen, faults


def _is_taken(lake: Lake, dataset: DatasetSpec, stamp: str) -> bool:
    """Whether the latest snapshot is of these very files."""
    try:
        latest = lake.latest(dataset.name, dataset.ingest_id)
    except LakeError:
        return False
    return latest is not None and stamp == _stamp((entry.url, entry.stamp or {}) for entry in latest.source)


def _stamp(files: Iterable[tuple[str, dict[str, Any]]]) -> str:
    found: Sequence[Any] = sorted([url, sorted(stamp.items())] for url, stamp in files)
    return digest_of(found, length=16)
