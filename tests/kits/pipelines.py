"""Small pipelines: specs, sources, and lakes with a dataset that is ingested, cut and embedded on demand."""

import csv
import json
import os
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa

from embed_assets.index.build import Built, build_index
from embed_assets.spec import DatasetSpec, EmbeddingPipeline
from embed_assets.spec.index import IndexSpec
from embed_worker.attempt.runner import run_job
from embed_worker.engine.loading import load_model
from embed_worker.lake.identity import RowsDigest
from embed_worker.lake.job import EmbedJob
from embed_worker.lake.layout import ShardId
from embed_worker.lake.manifests import InputRef, ShardManifest, StridesManifest
from embed_worker.lake.sets import SetManifest, SetShard
from embed_worker.lake.snapshots import RawManifest
from embed_worker.lake.spec import EmbeddingSpec
from embed_worker.lake.store import Store
from embed_worker.lake.strides import bring
from embed_worker.steps.cut import write_strides
from embed_worker.steps.raw import ingest
from embed_worker.steps.rows import all_rejects, schema_of, whole_rows
from embed_worker.steps.spans import spans_of
from resources.lake import Lake

HASH: dict[str, Any] = {"model": "embed-worker/hash", "pooling": "mean", "attention": "bidirectional", "max_tokens": 64}


def spec(**changes: Any) -> EmbeddingSpec:
    return EmbeddingSpec(**{**HASH, **changes})


def dataset(source: Any, **changes: Any) -> DatasetSpec:
    return DatasetSpec(
        **{
            "name": "d",
            "source": source,
            "text": "{text}",
            "strides": 3,
            "partitioning": "stride",
            "max_rejects": 1,
            **changes,
        }
    )


def pipeline(datasets: list[DatasetSpec], **changes: Any) -> EmbeddingPipeline:
    return EmbeddingPipeline(
        **{"name": "p", "datasets": datasets, "embedding": spec(), "checkpoint_rows": 4, **changes}
    )


def texts(count: int, start: int = 0) -> list[dict[str, Any]]:
    return [
        {"key": f"k{i}", "text": f"text number {i}, " + "word " * (i % 9), "n": i} for i in range(start, start + count)
    ]


def write_jsonl(path: Path, records: Iterable[Any]) -> Path:
    path.write_bytes(b"".join(json.dumps(record, ensure_ascii=False).encode() + b"\n" for record in records))
    return path


def settle(path: Path) -> Path:
    """As if it was written an hour ago: its stamp proves what is in it."""
    then = time.time() - 3600
    os.utime(path, (then, then))
    return path


def write_csv(path: Path, records: list[dict[str, Any]], delimiter: str = ",") -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(records[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(records)
    return path


def raw_rows(store: Store, raw: RawManifest, columns: list[str] | None = None) -> list[dict[str, Any]]:
    """The rows of a snapshot, of all its columns but `text_key`, or of some."""
    found: list[dict[str, Any]] = []
    names = columns or [name for name in schema_of(raw).names if name != "text_key"]
    with store.scratch() as scratch:
        for part in raw.parts:
            for batch in whole_rows(store, raw, part, scratch):
                found += pa.Table.from_batches([batch]).select(names).to_pylist()
    return found


def rejects(store: Store, raw: RawManifest) -> list[dict[str, Any]]:
    """In the order of the source."""
    found: list[dict[str, Any]] = pa.concat_tables(all_rejects(store, raw)).sort_by("record").to_pylist()
    return found


def manifests(lake: Path) -> list[str]:
    """All that readers of a lake can see."""
    return sorted(str(path.relative_to(lake)) for path in lake.rglob("_*.json") if "_retired" not in path.name)


class Prepared:
    """A dataset in a lake, ingested and cut; shards on demand."""

    def __init__(self, lake: Path, source: Any, *, embedding: EmbeddingSpec | None = None, **changes: Any) -> None:
        self.resource = Lake(root=str(lake))
        self.store = self.resource.store
        self.dataset = dataset(source, **changes)
        self.pipeline = pipeline([self.dataset], embedding=embedding or spec())
        self.raw = ingest(self.store, self.dataset).manifest
        self.partitioning = self.dataset.cut
        self.strides: StridesManifest = write_strides(self.store, self.raw, self.partitioning).manifest
        self.spans = spans_of(self.store, self.strides)

    def job(self, stride: int, **changes: Any) -> EmbedJob:
        entry = self.strides.strides[stride]
        spec = changes.get("spec", self.pipeline.embedding)
        fields = {
            "pipeline": self.pipeline.name,
            "shard": ShardId.of(self.dataset.name, spec.spec_id, self.partitioning, stride, entry.digest),
            "lake": self.store.root,
            "input": InputRef(path=self.strides.folder, digest=entry.digest, rows=entry.rows),
            "spans": self.spans[stride],
            "spec": self.pipeline.embedding,
            "checkpoint_rows": self.pipeline.checkpoint_rows,
        }
        return EmbedJob(**{**fields, **changes})

    def embed(self, stride: int, **changes: Any) -> ShardManifest:
        """Runs the worker in this process."""
        job = self.job(stride, **changes)
        run_job(job, lambda: load_model(job.spec), threading.Event())
        manifest = self.resource.shard(job.shard)
        assert manifest is not None
        return manifest

    def index(self, **changes: Any) -> Built:
        """Embeds the last of three shards, and makes the dataset's table, with changes of the `index:` block."""
        self.embed(2)
        return build_index(self.resource, self.set(), IndexSpec(**changes))

    def set(self) -> SetManifest:
        """Of all shards, unchecked."""
        manifests = [self.resource.shard(self.job(stride).shard) for stride in range(self.partitioning.count)]
        there = [manifest for manifest in manifests if manifest is not None]
        first = next((manifest for manifest in there if manifest.dimension), there[0])
        return SetManifest(
            dataset=self.dataset.name, spec_id=self.pipeline.embedding.spec_id, ingest_id=self.raw.ingest_id,
            snapshot=self.raw.snapshot, method=self.strides.method, count=self.strides.count,
            dimension=first.dimension, dtype=first.dtype, shards=[SetShard.of(manifest, []) for manifest in there],
        )  # fmt: skip

    def expected(self, stride: int) -> RowsDigest:
        entry = self.strides.strides[stride]
        return RowsDigest.parse(entry.rows, entry.digest)

    def rows(self, stride: int) -> list[dict[str, Any]]:
        """A stride's rows in order: id, text_key, text."""
        with self.store.scratch() as scratch:
            found = bring(self.store, self.spans[stride], scratch)
            return [row for table in found.batches() for row in table.to_pylist()]
