"""The promise of a lake, held against its files: each row once, embedded or rejected."""

from collections.abc import Iterator

from embed_assets.checks.outcome import run_checks
from embed_assets.checks.rows import ROW_CHECKS, RowsView
from embed_assets.checks.shard import SHARD_CHECKS, ShardView
from embed_assets.spec import EmbeddingPipeline
from embed_worker.lake.identity import RowsDigest
from embed_worker.lake.layout import ShardId
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
    cut = lake.cut(raw, dataset.cut)
    if cut is None:
        yield f"{name}: its snapshot is not cut"
        return
    for stride, entry in enumerate(cut.strides):
        shard = ShardId.of(name, pipeline.embedding.spec_id, cut.partitioning, stride, entry.digest)
        yield from _of_shard(lake, shard, RowsDigest.parse(entry.rows, entry.digest))


def _of_shard(lake: Lake, shard: ShardId, expected: RowsDigest) -> Iterator[str]:
    manifest = lake.shard(shard)
    if manifest is None:
        yield f"{shard}: is not committed"
        return
    view = ShardView(lake.store, shard, manifest, expected)
    for check, outcome in run_checks(SHARD_CHECKS, ONLY_READ, view).items():
        if not outcome.passed:
            yield f"{shard}: {check}: {outcome.description}"
