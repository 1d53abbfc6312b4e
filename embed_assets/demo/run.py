"""Materializes every partition of the demo through Dagster, then searches."""

import logging
import os
import time
import warnings
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.storage.tags import ASSET_PARTITION_RANGE_END_TAG, ASSET_PARTITION_RANGE_START_TAG
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from embed_assets.demo.bars import embedding_bars, progress_bars, reading_bars
from embed_assets.demo.fetch import fetch_demo_files
from embed_assets.demo.home import prepare_home
from embed_assets.deployment import compute_resource, deployed
from embed_assets.graph.jobs.outcome import reason_of
from embed_assets.graph.keys import (
    ASSETS,
    EMBEDDING_SET,
    EMBEDDING_SHARDS,
    RAW_REVIEWS,
    STRIDE_PARTITIONS,
    VECTOR_INDEX,
    asset_key,
)
from embed_assets.graph.partitions import PipelinePartitions
from embed_assets.index.hits import print_hits
from embed_assets.index.search import find_tables, search_table
from embed_assets.monitor.states import State
from embed_assets.settings import deployment
from embed_assets.spec import EmbeddingPipeline
from embed_assets.tell.terminal import CommandError, console
from embed_assets.upkeep.status import pipeline_status
from embed_worker.extras import need
from resources.lake import Lake
from resources.local.process import check_python
from resources.local.resource import LocalComputeResource

FOLDER = Path(".demo")
QUERY = "gorgeous to look at, but far too long"
QUERY_DATASET = "critic_reviews"
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


@dataclass
class AssetSummary:
    """What one asset's run recorded."""

    partitions: int = 0
    adopted: int = 0
    rows: int = 0
    tokens: int = 0
    seconds: float = 0.0
    checks_passed: int = 0
    checks: int = 0
    failures: list[str] = field(default_factory=list)


def run_demo() -> None:
    """Raises CommandError where a step fails; whatever was committed stays, and the next call goes on from there."""
    need("index")
    warnings.filterwarnings("ignore")
    os.environ.setdefault("LANCEDB_LOG", "error")  # it warns that a table it is told to make does not exist
    logging.getLogger("dagster").setLevel(logging.CRITICAL)
    begun = time.monotonic()
    with console.status("fetching the sample and the weights …"):
        fetch_demo_files(FOLDER)
    prepare_home(FOLDER / "dagster_home")
    settings, pipelines, lake = deployment()
    pipeline = next((p for p in pipelines if p.name == "demo"), None)
    if pipeline is None:
        raise CommandError("EMBED_PIPELINES does not have the demo pipeline; unset it, or add pipelines/demo.yaml")
    compute = compute_resource(settings)
    if isinstance(compute, LocalComputeResource):
        check_python(compute.worker_python)
    with ThreadPoolExecutor(1) as pool:
        vector: Future[list[list[float]]] | None = None
        if _looks_committed(lake, pipeline):  # nothing to embed: load the model for the search meanwhile
            vector = pool.submit(compute.embed_queries, pipeline.embedding, [QUERY])
        definitions = deployed(pipelines, settings)
        summaries = _materialize(definitions, pipeline, lake)
        _print_summary(summaries)
        with console.status("embedding the query …"):
            vectors = vector.result() if vector else compute.embed_queries(pipeline.embedding, [QUERY])
    found = find_tables(lake, [pipeline], [QUERY_DATASET])[0]
    print_hits(f"“{QUERY}” in {QUERY_DATASET}", search_table(found, vectors[0], 5))
    console.print(f"\nDone in {time.monotonic() - begun:.0f} s. The lake is {lake.store.root}.")
    console.print("Open the UI:       ", Text("make ui", "bold"), "      (then http://127.0.0.1:3000)", sep="")
    console.print(
        "Search yourself:   ", Text('.venv/bin/embed-assets search "…" --dataset critic_reviews', "bold"), sep=""
    )
    console.print("Prove the lake:    ", Text(".venv/bin/embed-assets verify", "bold"), sep="")


def _looks_committed(lake: Lake, pipeline: EmbeddingPipeline) -> bool:
    if not lake.store.exists(""):
        return False
    statuses = pipeline_status(lake.store, pipeline)
    return all(set(status.partitions.values()) == {State.COMMITTED} for status in statuses)


def _materialize(definitions: dg.Definitions, pipeline: EmbeddingPipeline, lake: Lake) -> dict[str, AssetSummary]:
    partitions = PipelinePartitions(pipeline)
    datasets = list(partitions.strides_of)
    strides = list(partitions.strides.get_partition_keys())
    job = definitions.resolve_implicit_global_asset_job_def()
    summaries = {name: AssetSummary() for name in ASSETS}
    with dg.DagsterInstance.get() as instance, progress_bars(console) as progress:

        def run(name: str, tags: dict[str, str] | None = None, partition: str | None = None) -> None:
            begun = time.monotonic()
            result = job.execute_in_process(
                instance=instance,
                asset_selection=[asset_key(pipeline, name)],
                tags={"embed_assets/demo": "true", **(tags or {})},
                partition_key=partition,
                run_config=QUIET,
                raise_on_error=False,
            )
            _collect(summaries[name], instance, result.run_id, asset_key(pipeline, name))
            summaries[name].seconds += time.monotonic() - begun
            if not result.success:
                raise CommandError(f"{name} failed: {reason_of(instance, result.run_id)}")

        with reading_bars(progress):
            run(RAW_REVIEWS, _range(list(partitions.snapshots.get_partition_keys())))
        _bar(progress, STRIDE_PARTITIONS, len(strides), lambda: run(STRIDE_PARTITIONS, _range(strides)))
        with embedding_bars(progress, lake, pipeline):
            run(EMBEDDING_SHARDS, _range(strides))
        _bar(progress, EMBEDDING_SET, len(datasets), lambda: run(EMBEDDING_SET, _range(datasets)))
        task = progress.add_task(VECTOR_INDEX, total=len(datasets), note="")
        for name in datasets:
            run(VECTOR_INDEX, partition=name)
            progress.advance(task)
    return summaries


def _bar(progress: Progress, name: str, total: int, work: Any) -> None:
    task = progress.add_task(name, total=None, note="")
    work()
    progress.update(task, total=total, completed=total)


def _range(keys: list[str]) -> dict[str, str]:
    return {ASSET_PARTITION_RANGE_START_TAG: keys[0], ASSET_PARTITION_RANGE_END_TAG: keys[-1]}


def _collect(summary: AssetSummary, instance: dg.DagsterInstance, run_id: str, key: dg.AssetKey) -> None:
    """Adds up what the run's events say of an asset."""
    kinds = {dg.DagsterEventType.ASSET_MATERIALIZATION, dg.DagsterEventType.ASSET_CHECK_EVALUATION}
    for entry in instance.all_logs(run_id, of_type=kinds):
        event = entry.dagster_event
        if event is None or event.asset_key not in (None, key):  # of a check it has none
            continue
        if event.event_type is dg.DagsterEventType.ASSET_MATERIALIZATION:
            metadata: dict[str, Any] = {
                k: v.value for k, v in event.step_materialization_data.materialization.metadata.items()
            }
            summary.partitions += 1
            summary.adopted += bool(metadata["details"]["adopted"])
            summary.rows += int(metadata.get("dagster/partition_row_count") or 0)
            summary.tokens += int(metadata.get("tokens") or 0)
        else:
            evaluation = event.asset_check_evaluation_data
            summary.checks += 1
            summary.checks_passed += evaluation.passed
            if not evaluation.passed:
                summary.failures.append(f"{evaluation.partition} {evaluation.check_name}: {evaluation.description}")


def _print_summary(summaries: dict[str, AssetSummary]) -> None:
    table = Table(title="materialized through Dagster", title_justify="left")
    table.add_column("asset", no_wrap=True)
    for name in ("partitions", "adopted", "rows", "tokens", "seconds", "checks passed"):
        table.add_column(name, justify="right")
    for name, summary in summaries.items():
        good = summary.checks_passed == summary.checks
        table.add_row(
            name,
            f"{summary.partitions:,}",
            f"{summary.adopted:,}",
            f"{summary.rows:,}",
            f"{summary.tokens:,}" if summary.tokens else "",
            f"{summary.seconds:.1f}",
            Text(f"{summary.checks_passed} of {summary.checks}", style="green" if good else "red"),
        )
    console.print(table)
    failures = [line for summary in summaries.values() for line in summary.failures]
    if failures:
        raise CommandError("checks failed:\n" + "\n".join(failures))
