"""What the worker's tests share: specs, jobs over small inputs, engines that misbehave, and the proof of a shard."""

import threading
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from embed_worker.attempt.lanes import Lane
from embed_worker.attempt.runner import run_job
from embed_worker.engine.base import ListSource, RequestSource, Result, embed_list
from embed_worker.engine.hash import MODEL, HashEngine, byte_tokenizer
from embed_worker.engine.loading import LoadedModel, load_model
from embed_worker.engine.tokens import TextTokenizer
from embed_worker.lake import files
from embed_worker.lake.identity import KEY_TYPE, rows_digest, text_key, text_keys
from embed_worker.lake.job import EmbedJob
from embed_worker.lake.layout import Partitioning, ShardId
from embed_worker.lake.manifests import InputRef, ShardManifest, read_manifest
from embed_worker.lake.spec import EmbeddingSpec
from embed_worker.lake.store import Store
from embed_worker.lake.strides import Span, in_order
from embed_worker.steps.cut import write_slice
from embed_worker.steps.spans import span_of

PARTITIONING = Partitioning("stride", 10)
FOLDER = f"stride_partitions/books/0a1b2c3d4e5f/{PARTITIONING.name}"


def make_spec(**changes: Any) -> EmbeddingSpec:
    values: dict[str, Any] = {
        "model": MODEL,
        "pooling": "mean",
        "attention": "bidirectional",
        "max_tokens": 32,
        "overlap": 4,
    }
    return EmbeddingSpec(**{**values, **changes})


def make_texts(count: int) -> list[str]:
    """Short and long texts: about every fifth makes several windows of a 32-token spec. In the order of a job's rows."""
    texts = [f"text {i} " + "abcdefgh " * (i % 5 == 4) * (2 + i % 7) for i in range(count)]
    return sorted(texts, key=text_key)


def numbers(texts: Sequence[str]) -> list[int]:
    """Of the rows of these texts: the numbers in their ids, too."""
    return list(range(3, 3 + 10 * len(texts), 10))


def input_table(texts: Sequence[str]) -> pa.Table:
    rows = numbers(texts)
    return pa.table(
        {
            "row_id": pa.array(rows, pa.int64()),
            "id": pa.array([f"id-{row}" for row in rows], pa.string()),
            "text_key": pa.array(text_keys(texts), KEY_TYPE),
            "text": pa.array(texts, pa.string()),
        }
    )


def write_slices(store: Store, folder: str, table: pa.Table, slices: int = 1) -> tuple[list[Span], str]:
    """Rows that are all of stride 3, and their digest."""
    spans, size = [], -(-max(table.num_rows, 1) // slices)
    with store.scratch() as scratch:
        for index in range(slices):
            local = scratch / "slice.arrow"
            line = write_slice(local, table.slice(index * size, size), PARTITIONING, 10 * table.num_rows)[3]
            path = f"{folder}/slices/{index:05d}.arrow"
            assert store.create_file(path, local)
            local.unlink()
            if line["rows"]:
                spans.append(span_of(path, line))
    return spans, str(rows_digest(table.column("id").to_pylist(), table.column("text_key").to_pylist()))


def make_job(
    lake: str,
    texts: Sequence[str],
    *,
    slices: int = 1,
    rows: int | None = None,
    checkpoint_rows: int = 4,
    heartbeat_seconds: float = 60.0,
    **spec: Any,
) -> EmbedJob:
    """Writes slices with the texts into the lake and returns the job over them."""
    store = Store(lake)
    spans, digest = write_slices(store, FOLDER, input_table(texts), slices)
    embedding = make_spec(**spec)
    return EmbedJob(
        pipeline="reviews",
        shard=ShardId.of("books", embedding.spec_id, PARTITIONING, 3, digest),
        lake=lake,
        input=InputRef(path=FOLDER, digest=digest, rows=len(texts) if rows is None else rows),
        spans=spans,
        spec=embedding,
        checkpoint_rows=checkpoint_rows,
        heartbeat_seconds=heartbeat_seconds,
    )


def write_job(job: EmbedJob) -> str:
    """Puts the job file into the lake and returns its URL."""
    store = Store(job.lake)
    store.create_json(job.path, job.model_dump(mode="json"))
    return store.url(job.path)


def run(job: EmbedJob, engine: HashEngine | None = None, stop: threading.Event | None = None) -> bool:
    return run_job(job, lambda: loaded(job.spec, engine), stop or threading.Event())


def loaded(spec: EmbeddingSpec, engine: HashEngine | None = None) -> LoadedModel:
    model = load_model(spec)
    if engine is not None:
        model.engine = engine
    return model


def no_model() -> LoadedModel:
    raise AssertionError("the model must not be loaded")


def manifest_of(job: EmbedJob) -> ShardManifest:
    manifest = read_manifest(Store(job.lake), job.shard.manifest_path, ShardManifest)
    assert manifest is not None, "not committed"
    return manifest


def shard_table(job: EmbedJob, folder: Path) -> pa.Table:
    """All parts of the committed shard, each proved by its digest."""
    store = Store(job.lake)
    tables = []
    for number, file in enumerate(manifest_of(job).files):
        target = folder / f"fetched-{number}"
        target.mkdir(exist_ok=True)
        table = pq.read_table(files.fetch(store, job.shard.folder, file, target))
        assert table.num_rows == file.rows
        tables.append(table.replace_schema_metadata(None))
    return pa.concat_tables(tables) if tables else pa.table({"id": pa.array([], pa.string())})


def prove(job: EmbedJob, texts: Sequence[str], folder: Path, rejected: dict[int, str] | None = None) -> pa.Table:
    """Proves a committed shard from its files alone: every row once, in order, each vector the right one."""
    manifest = manifest_of(job)
    rejected = rejected or {}
    model = TextTokenizer(byte_tokenizer(), job.spec)
    expected: list[tuple[str, bytes, int, int, int, int]] = []
    sequences = []
    for row in in_order(input_table(texts)).to_pylist():
        if row["row_id"] in rejected:
            continue
        for chunk, window in enumerate(model.windows([row["text"]], job.spec.prompts.document)[0]):
            expected.append((row["id"], row["text_key"], chunk, len(window.ids), window.start, window.end))
            sequences.append(window.ids)
    table = shard_table(job, folder)
    assert table.num_rows == len(expected)
    if expected:
        columns = ("id", "text_key", "chunk", "n_tokens", "char_start", "char_end")
        found = list(zip(*(table.column(c).to_pylist() for c in columns), strict=True))
        assert found == expected
        vectors = np.asarray(table.column("embedding").combine_chunks().flatten()).reshape(len(expected), -1)
        right = embed_list(HashEngine(job.spec), sequences).astype(vectors.dtype)
        np.testing.assert_array_equal(vectors, right)
    assert manifest.windows == len(expected)
    assert manifest.tokens == sum(row[3] for row in expected)
    assert manifest.rows_in == len(texts)
    assert manifest.rows_rejected == len(rejected)
    assert rejects_of(job, folder) == rejected
    assert all(file.path.startswith("part-") for file in manifest.files)
    return table


def rejects_of(job: EmbedJob, folder: Path) -> dict[int, str]:
    file = manifest_of(job).rejects
    if file is None:
        return {}
    rows = pq.read_table(files.fetch(Store(job.lake), job.shard.folder, file, folder)).to_pylist()
    order = [(row["text_key"], row["id"].encode()) for row in rows]
    assert order == sorted(order)
    return {int(row["id"].removeprefix("id-")): row["reason"] for row in rows}


def leftovers(job: EmbedJob) -> list[str]:
    """Names in the shard's folder that its manifest does not account for."""
    manifest = manifest_of(job)
    listed = {"_manifest.json", *(file.path for file in manifest.listed)}
    return [name for name in Store(job.lake).list(job.shard.folder) if name not in listed]


def heartbeats(job: EmbedJob) -> list[dict[str, Any]]:
    store = Store(job.lake)
    folder = f"progress/{job.shard.key}"
    return [orjson.loads(store.read(f"{folder}/{name}")) for name in store.list(folder) if name.endswith(".json")]


class CountingEngine(HashEngine):
    """Remembers each sequence it was given; `hook` may stop it, or replace a vector."""

    def __init__(self, spec: EmbeddingSpec) -> None:
        super().__init__(spec)
        self.seen: list[tuple[int, ...]] = []

    def hook(self, ids: tuple[int, ...], vector: np.ndarray) -> np.ndarray | str:
        return vector

    def embed(self, source: RequestSource) -> Generator[Result, None, None]:
        if isinstance(source, ListSource):  # canaries
            yield from super().embed(source)
            return
        engine = self

        class Tap:
            ids: tuple[int, ...] = ()

            @property
            def exhausted(self) -> bool:
                return source.exhausted

            def take(self, block: bool) -> Any:
                request = source.take(block)
                if request is not None:
                    self.ids = request[1]
                    engine.seen.append(request[1])
                return request

        tap = Tap()
        for key, vector in super().embed(tap):  # type: ignore[arg-type]
            assert isinstance(vector, np.ndarray)
            yield key, self.hook(tap.ids, vector)


def text_of(ids: tuple[int, ...]) -> str:
    return byte_tokenizer().decode(list(ids))


def run_lane(job: EmbedJob, lane: Lane, engine: HashEngine) -> None:
    try:
        run_job(job, lambda: loaded(job.spec, engine), threading.Event(), lane=lane)
    finally:
        lane.close()
