"""The promise of a lake, held against its files: each row once, embedded or rejected."""

from collections.abc import Iterator

import pyarrow.parquet as pq

from embed_assets.checks.outcome import run_checks
from embed_assets.checks.reading import Proofs
from embed_assets.checks.rows import ROW_CHECKS, RowsView
from embed_assets.checks.shard import SHARD_CHECKS, ShardView
from embed_assets.spec import DatasetSpec, EmbeddingPipeline
from embed_worker.lake.files import FileRef
from embed_worker.lake.layout import ShardId
from embed_worker.steps.rows import part_rows
from resources.lake import Lake

ONLY_READ = [name for name in SHARD_CHECKS if name != "same_embedding_space"]  # that one may write


def assert_exact(lake: Lake, pipeline: EmbeddingPipeline, *datasets: str) -> None:
    """Each row of the datasets' snapshots, all of them without any name, is there once: embedded under its id, or set
    aside with a reason. Reads every file. Raises AssertionError with all that is not so."""
    faults = [
        fault for name in datasets or [d.name for d in pipeline.datasets] for fault in _faults(lake, pipeline, name)
    ]
    assert not faults, "\n".join(faults)


def _faults(lake: Lake, pipeline: EmbeddingPipeline, name: str) -> Iterator[str]:
    dataset = pipeline.dataset(name)
    raw = lake.base(name, dataset.ingest_id)
    if raw is None:
        yield f"{name}: no snapshot is committed"
        return
    for check, outcome in run_checks(ROW_CHECKS, ROW_CHECKS, RowsView(lake.store, raw)).items():
        if not outcome.passed:
            yield f"{name}: raw_reviews: {check}: {outcome.description}"
    ids: dict[int, str] = {}
    with lake.store.scratch() as scratch:
        for part in raw.parts:
            for batch in part_rows(lake.store, raw, part, scratch, ["row_id", "id"]):
                ids |= zip(batch.column(0).to_pylist(), batch.column(1).to_pylist(), strict=True)
    for stride in range(dataset.strides):
        yield from _of_shard(lake, pipeline, dataset, raw.snapshot, stride, ids)


def _of_shard(
    lake: Lake, pipeline: EmbeddingPipeline, dataset: DatasetSpec, snapshot: str, stride: int, ids: dict[int, str]
) -> Iterator[str]:
    partitioning = dataset.partitioning_of(snapshot)
    shard = ShardId.of(dataset.name, pipeline.embedding.spec_id, partitioning, stride)
    manifest = lake.shard(shard)
    if manifest is None:
        yield f"{shard}: is not committed"
        return
    expected = partitioning.row_ids(stride, len(ids))
    assert isinstance(expected, range)
    view = ShardView(lake.store, shard, manifest, expected)
    for check, outcome in run_checks(SHARD_CHECKS, ONLY_READ, view).items():
        if not outcome.passed:
            yield f"{shard}: {check}: {outcome.description}"
    for row, found in _ids(lake, shard.folder, manifest.listed):
        if ids.get(row) != found:
            yield f"{shard}: row {row} has the id {found!r}, in raw_reviews {ids.get(row)!r}"


def _ids(lake: Lake, folder: str, files: list[FileRef]) -> Iterator[tuple[int, str]]:
    """Row and id, wherever both stand; a file that is not there is the checks' matter."""
    for _, local in Proofs(lake.store, folder).files(files):
        if local is not None:
            table = pq.read_table(local, columns=["row_id", "id"])
            yield from zip(table.column("row_id").to_pylist(), table.column("id").to_pylist(), strict=True)
