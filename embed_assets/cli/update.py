"""`embed-assets update`: the job `{pipeline}__update` in this process, on the instance of DAGSTER_HOME."""

import os
from typing import Any

import dagster as dg
from rich.text import Text

from embed_assets.cli.common import chosen
from embed_assets.deployment import deployed
from embed_assets.graph.jobs.outcome import reason_of
from embed_assets.settings import deployment
from embed_assets.spec import EmbeddingPipeline
from embed_assets.tell.terminal import CommandError, console, shown
from embed_worker.lake.sets import current_set
from resources.lake import Lake

LINES = {"loggers": {"console": {"config": {"log_level": "INFO"}}}}


def update(pipeline: str | None, config: dict[str, Any]) -> None:
    """Raises CommandError where a partition failed; whatever was committed stays."""
    if not os.environ.get("DAGSTER_HOME"):
        raise CommandError("DAGSTER_HOME is not set: the folder of the Dagster instance that is to record the update")
    settings, pipelines, lake = deployment()
    mine = [one for one in chosen(pipelines, pipeline) if _has(one, config["datasets"], alone=pipeline is not None)]
    if not mine:
        raise CommandError(f"no pipeline has the datasets {', '.join(config['datasets'])}")
    definitions = deployed(pipelines, settings)
    failed = []
    with dg.DagsterInstance.get() as instance:
        for one in mine:
            name = f"{one.name}__update"
            run = definitions.resolve_job_def(name).execute_in_process(
                instance=instance, raise_on_error=False, run_config={**LINES, "ops": {f"{name}_op": {"config": config}}}
            )
            for dataset in one.datasets:
                if not config["datasets"] or dataset.name in config["datasets"]:
                    console.print(_told(lake, one, dataset.name), soft_wrap=True)
            if not run.success:
                failed.append(f"{name}: {reason_of(instance, run.run_id)}")
    if failed:
        raise CommandError("; ".join(failed))


def _has(pipeline: EmbeddingPipeline, datasets: list[str], *, alone: bool) -> bool:
    """Whether the update is one of this pipeline's. One that was named alone says itself what it lacks."""
    return alone or not datasets or bool({d.name for d in pipeline.datasets} & set(datasets))


def _told(lake: Lake, pipeline: EmbeddingPipeline, dataset: str) -> Text:
    found = current_set(lake.store, dataset, pipeline.embedding.spec_id, pipeline.dataset(dataset).ingest_id)
    said = f"{found.rows:,} rows, {found.windows:,} vectors" if found else "no set is published"
    return Text.assemble((f"{pipeline.name}/{dataset}", "bold"), shown(f"  {said}"))
