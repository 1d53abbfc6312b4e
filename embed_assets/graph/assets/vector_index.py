"""vector_index: a LanceDB table a dataset, built from its complete, checked set."""

from collections.abc import Iterator, Sequence
from typing import Any

import dagster as dg

from embed_assets.checks.outcome import Check, CheckOutcome, all_failed, run_checks
from embed_assets.estimate.costs import read_costs, total_of
from embed_assets.graph.assets.index_metadata import index_metadata
from embed_assets.graph.dagster_events import PartitionRun
from embed_assets.graph.definition import recorded_asset
from embed_assets.graph.keys import EMBEDDING_SET, VECTOR_INDEX, asset_key
from embed_assets.graph.partitions import PipelinePartitions
from embed_assets.index.build import LowRecall, build_index
from embed_assets.index.lance import open_version
from embed_assets.index.record import read_record
from embed_assets.settings import Settings
from embed_assets.spec import EmbeddingPipeline
from embed_worker.extras import MissingExtra
from embed_worker.lake.errors import DamagedData, LakeError, NotReady
from embed_worker.lake.sets import SetManifest, current_set
from resources.lake import Lake

DESCRIPTION = """The vectors of a dataset in a LanceDB table, ready to search.

Made from the dataset's current embedding_set, so of complete, checked vectors only: the table before is changed by what
is different, or made anew. Readers keep the version before until the new one is whole, indexed, and its recall is
measured; one that falls below index.min_recall is not published."""


def build_vector_index(
    pipeline: EmbeddingPipeline, partitions: PipelinePartitions, settings: Settings
) -> dg.AssetsDefinition:
    key = asset_key(pipeline, VECTOR_INDEX)

    @recorded_asset(
        pipeline, VECTOR_INDEX, settings, partitions.datasets,
        description=DESCRIPTION,
        code_version=pipeline.embedding.spec_id,
        deps=[asset_key(pipeline, EMBEDDING_SET)],
        kinds=["lancedb"],
        about={"spec_id": pipeline.embedding.spec_id},
        checks=INDEX_CHECKS,
    )  # fmt: skip
    def vector_index(context: dg.AssetExecutionContext, lake: dg.ResourceParam[Lake]) -> Iterator[Any]:
        run = PartitionRun.of_step(context, key)
        names = run.partitions()
        if run.checks_only:
            check_indexes(run, lake, pipeline, names)
        else:
            make_indexes(run, lake, pipeline, names)
        yield from run.finish(len(names))

    return vector_index


def make_indexes(
    run: PartitionRun, lake: Lake, pipeline: EmbeddingPipeline, names: Sequence[str], *, record_all: bool = True
) -> list[str]:
    """Makes and records the tables of these datasets; those that are there now."""
    inputs = run.provenance.inputs(names)
    known = {} if record_all else run.provenance.recorded(names)
    there: list[str] = []
    for name in names:
        try:
            found = _set(lake, pipeline, name)
            made = build_index(lake, found, pipeline.index)
            there.append(name)
            if not made.created and known.get(name) == made.record.key:
                continue
            metadata = {**index_metadata(lake, pipeline, found, made), **_cost(lake, pipeline, name)}
        except LowRecall as error:
            red = CheckOutcome(False, str(error), {"recall": error.found, "min_recall": error.wanted})
            run.checked(name, {"recall": red} if "recall" in run.selected_checks else {})
            run.failed(name, str(error))
            continue
        except (LakeError, MissingExtra) as error:
            cure = "; materialize its partition again" if isinstance(error, DamagedData) else ""
            run.failed(name, f"{error}{cure}")
            continue
        if not made.created:
            run.tell(f"{name}: the table holds this very set already; nothing to do")
        checks = run_checks(INDEX_CHECKS, run.selected_checks, (lake, found))
        run.committed(name, data_version=made.record.key, metadata=metadata, inputs=inputs[name], checks=checks)
    return there


def check_indexes(run: PartitionRun, lake: Lake, pipeline: EmbeddingPipeline, names: Sequence[str]) -> None:
    """Runs the checks of these datasets' tables again."""
    for name in names:
        run.checked(name, _check(run, lake, pipeline, name))


def complete(view: tuple[Lake, SetManifest]) -> CheckOutcome:
    """The published table has one row for each vector of the set."""
    lake, found = view
    record = read_record(lake.store, found.dataset, found.spec_id)
    table = open_version(lake, record) if record is not None else None
    rows = int(table.count_rows()) if table is not None else 0
    text = f"{rows:,} rows in the table, {found.windows:,} vectors in the set"
    same = record is not None and record.set_digest == found.digest
    if not same:
        text += "; it was made from another set"
    return CheckOutcome(same and rows == found.windows, text, {"rows": rows, "vectors": found.windows})


def recall(view: tuple[Lake, SetManifest]) -> CheckOutcome:
    """A search finds enough of the ten nearest vectors, held against exact search when the table was made."""
    lake, found = view
    record = read_record(lake.store, found.dataset, found.spec_id)
    if record is None:
        return CheckOutcome(False, "no table is published")
    if record.recall is None:
        return CheckOutcome(True, "every vector is looked at: the search is exact", {"recall": 1.0})
    return CheckOutcome(True, f"recall@10 is {record.recall:.3f} with {record.type}", {"recall": record.recall})


INDEX_CHECKS: dict[str, Check[tuple[Lake, SetManifest]]] = {"complete": complete, "recall": recall}


def _check(run: PartitionRun, lake: Lake, pipeline: EmbeddingPipeline, name: str) -> dict[str, CheckOutcome]:
    try:
        return run_checks(INDEX_CHECKS, run.selected_checks, (lake, _set(lake, pipeline, name)))
    except LakeError as error:
        return all_failed(run.selected_checks, str(error))


def _set(lake: Lake, pipeline: EmbeddingPipeline, name: str) -> SetManifest:
    found = current_set(lake.store, name, pipeline.embedding.spec_id, pipeline.dataset(name).ingest_id)
    if found is None:
        raise NotReady(f"embedding_set of {name} is not in {lake.root}; materialize it first")
    return found


def _cost(lake: Lake, pipeline: EmbeddingPipeline, dataset: str) -> dict[str, Any]:
    """Of all jobs that worked on the dataset with this spec; nothing where the backend has no prices."""
    spec_id = pipeline.embedding.spec_id
    try:
        costs = [c for c in read_costs(lake.store, pipeline.name) if (c.dataset, c.spec_id) == (dataset, spec_id)]
    except LakeError as error:  # the table is built, and a cost is never worth a run
        return {"cost": f"unknown: {error}"}
    if not costs:
        return {}
    spent = total_of(costs)
    found: dict[str, Any] = {"cost": spent.text(), "cost_jobs_unknown": spent.unknown}
    if spent.unknown < spent.jobs:
        found["cost_dollars"] = round(spent.usd, 4)
    if spent.on_demand_usd is not None:
        found["on_demand_dollars"] = round(spent.on_demand_usd, 4)
    return found
