"""What a pipeline's assets and jobs have in common as Dagster sees them: keys, group, tags, pool, checks."""

import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import dagster as dg

from embed_assets.graph.jobs.automation import condition
from embed_assets.graph.keys import asset_key
from embed_assets.settings import Settings
from embed_assets.spec import EmbeddingPipeline

STORAGE_KINDS = {"s3": "s3", "gs": "gcs", "gcs": "gcs", "az": "azure", "abfs": "azure", "abfss": "azure"}
PIPELINE_TAG = "embed/pipeline"


def recorded_asset(
    pipeline: EmbeddingPipeline,
    name: str,
    settings: Settings,
    partitions: dg.StaticPartitionsDefinition,
    *,
    description: str,
    code_version: str,
    deps: Iterable[Any],
    kinds: Iterable[str],
    about: Mapping[str, Any],
    checks: Mapping[str, Callable[..., Any]] | None = None,
    per_run: int | None = None,
) -> Callable[[Callable[..., Any]], dg.AssetsDefinition]:
    """Makes a step the step of one asset, whose events it logs itself (`dagster_events`).

    `about` is metadata of the definition beside the pipeline's own; a check's docstring is its description in the UI.
    """
    key, options = asset_key(pipeline, name), pipeline.op.of(name)
    described = {"pipeline": pipeline.description} if pipeline.description else {}
    stored = STORAGE_KINDS.get(settings.lake.partition("://")[0]) if "://" in settings.lake else None
    count, per_run = len(partitions.get_partition_keys()), per_run or settings.partitions_per_run
    # One run where all partitions fit into one: `dg launch --partition-range` takes no other policy.
    policy = dg.BackfillPolicy.single_run() if count <= per_run else dg.BackfillPolicy.multi_run(per_run)
    spec = dg.AssetSpec(
        key,
        description=description,
        code_version=code_version,
        deps=list(deps),
        skippable=True,
        group_name=pipeline.translation.group or pipeline.name,
        owners=list(pipeline.owners),
        tags={PIPELINE_TAG: pipeline.name, **pipeline.translation.tags},
        kinds={*kinds, *([stored] if stored else [])},
        automation_condition=condition(pipeline),
        metadata={**described, "model": pipeline.embedding.model, **about},
    )
    return dg.multi_asset(
        name=f"{pipeline.name}__{name}",
        partitions_def=partitions,
        can_subset=True,
        backfill_policy=policy,
        pool=options.pool,
        op_tags=options.tags,
        specs=[spec],
        check_specs=_check_specs(key, checks or {}, partitions),
    )


def _check_specs(
    key: dg.AssetKey, checks: Mapping[str, Callable[..., Any]], partitions: dg.StaticPartitionsDefinition
) -> list[dg.AssetCheckSpec]:
    with warnings.catch_warnings():  # we know that Dagster calls checks with partitions a preview
        warnings.simplefilter("ignore", dg.PreviewWarning)
        return [
            dg.AssetCheckSpec(name, asset=key, description=check.__doc__, partitions_def=partitions)
            for name, check in checks.items()
        ]


def pipeline_job(pipeline: EmbeddingPipeline, name: str, op: dg.OpDefinition, *, description: str) -> dg.JobDefinition:
    """`{pipeline}__{name}`: a job of one op, in the run's own process."""

    @dg.job(
        name=f"{pipeline.name}__{name}",
        description=description,
        executor_def=dg.in_process_executor,
        tags={
            PIPELINE_TAG: pipeline.name,
            # The driver has tried again already, and what is left no second run cures.
            "dagster/retry_on_asset_or_op_failure": "false",
        },
    )
    def job() -> None:
        op()

    return job
