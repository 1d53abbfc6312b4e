"""Snapshots of a dataset over time, cut in any way: a job a stride, and the proof of its shard row by row."""

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from embed_worker.engine.base import embed_list
from embed_worker.engine.hash import HashEngine, byte_tokenizer
from embed_worker.engine.tokens import TextTokenizer
from embed_worker.lake.identity import KEY_TYPE, rows_digest, text_keys
from embed_worker.lake.job import EmbedJob
from embed_worker.lake.layout import Partitioning, ShardId
from embed_worker.lake.manifests import InputRef
from embed_worker.lake.spec import EmbeddingSpec
from embed_worker.lake.store import Store
from embed_worker.lake.strides import in_order
from embed_worker.steps.cut import write_slice
from embed_worker.steps.spans import span_of
from tests.kits.attempt.jobs import make_spec, manifest_of, run, shard_table

Sequences = list[tuple[int, ...]]


def table_of(rows: Mapping[str, str]) -> pa.Table:
    """Id → text."""
    return pa.table(
        {
            "row_id": pa.array(range(len(rows)), pa.int64()),
            "id": pa.array(list(rows), pa.string()),
            "text_key": pa.array(text_keys(rows.values()), KEY_TYPE),
            "text": pa.array(list(rows.values()), pa.string()),
        }
    )


def cut(
    lake: str, rows: Mapping[str, str], partitioning: Partitioning, dataset: str = "books", **changes: Any
) -> list[EmbedJob]:
    """The jobs of a snapshot. `changes`: fields of the job; `spec` are changes to the spec."""
    store, table, spec = Store(lake), table_of(rows), make_spec(**changes.pop("spec", {}))
    whole = str(rows_digest(table.column("id").to_pylist(), table.column("text_key").to_pylist()))
    folder = f"stride_partitions/{dataset}/0a1b2c3d4e5f/{partitioning.name}"
    path = f"{folder}/slices/{whole}.arrow"
    with store.scratch() as scratch:
        lines = write_slice(scratch / "slice", table, partitioning, len(rows))
        store.create_file(path, scratch / "slice")
    jobs = []
    for stride, line in enumerate(lines):
        spans = [span_of(path, line)] if line["rows"] else []
        digest = spans[0].digest if spans else "0" * 32
        fields: dict[str, Any] = {
            "pipeline": "reviews", "shard": ShardId.of(dataset, spec.spec_id, partitioning, stride, digest),
            "lake": lake, "input": InputRef(path=folder, digest=digest, rows=int(line["rows"])), "spans": spans,
            "spec": spec, "checkpoint_rows": 3, "heartbeat_seconds": 60.0,
        }  # fmt: skip
        jobs.append(EmbedJob(**{**fields, **changes}))
    return jobs


def rows_of(job: EmbedJob, rows: Mapping[str, str]) -> list[dict[str, Any]]:
    """Those of a snapshot's rows that are the job's, in its order."""
    table = table_of(rows)
    places = job.shard.partitioning.stride_of(
        table.column("row_id").to_numpy(), table.column("text_key").combine_chunks(), len(rows)
    )
    found: list[dict[str, Any]] = in_order(table.filter(pa.array(places == job.shard.stride))).to_pylist()
    return found


def sequences_of(job: EmbedJob, texts: Iterable[str]) -> set[tuple[int, ...]]:
    """What an engine is asked for texts."""
    tokenizer = TextTokenizer(byte_tokenizer(), job.spec)
    return {window.ids for found in tokenizer.windows(list(texts)) for window in found}


def prove_rows(job: EmbedJob, rows: Sequence[Mapping[str, Any]], engine: HashEngine | None = None) -> np.ndarray:
    """A committed shard holds exactly these rows, each with all its windows and their right vectors; the vectors."""
    tokenizer = TextTokenizer(byte_tokenizer(), job.spec)
    expected, sequences = [], Sequences()
    for row in rows:
        windows = tokenizer.windows([row["text"]])[0] if row["text"].strip() else []
        for chunk, window in enumerate(windows):
            expected.append((row["id"], row["text_key"], chunk, len(window.ids), window.start, window.end))
            sequences.append(window.ids)
    with tempfile.TemporaryDirectory() as folder:
        table = shard_table(job, Path(folder))
    if not expected:
        assert table.num_rows == 0
        return np.empty((0, 0))
    columns = ("id", "text_key", "chunk", "n_tokens", "char_start", "char_end")
    assert list(zip(*(table.column(c).to_pylist() for c in columns), strict=True)) == expected
    vectors: np.ndarray = np.asarray(table.column("embedding").combine_chunks().flatten()).reshape(len(expected), -1)
    np.testing.assert_array_equal(vectors, embed_list(engine or HashEngine(job.spec), sequences).astype(vectors.dtype))
    manifest = manifest_of(job)
    with_text = [row for row in rows if row["text"].strip()]
    assert manifest.rows_in == len(rows) and manifest.rows_with_vector == len(with_text)
    assert manifest.windows == len(expected) and manifest.tokens == sum(row[3] for row in expected)
    return vectors


MARK = 0.001
"""Within what canaries may differ by."""


class Marked(HashEngine):
    """Vectors that tell which engine made them."""

    def __init__(self, spec: EmbeddingSpec, mark: float) -> None:
        super().__init__(spec)
        self.mark = mark

    def embed(self, source: Any) -> Any:
        for key, vector in super().embed(source):
            assert isinstance(vector, np.ndarray)
            yield key, vector + np.float32(self.mark)


def with_bases(jobs: list[EmbedJob], *bases: EmbedJob) -> list[EmbedJob]:
    return [job.model_copy(update={"reuse": [base.shard for base in bases if base.shard != job.shard]}) for job in jobs]


def bases(lake: Path, count: int = 150) -> tuple[dict[str, str], EmbedJob]:
    rows = {f"k{n:04d}": f"text number {n} " + "and more " * (n % 7) for n in range(count)}
    (old,) = cut(str(lake), rows, Partitioning("content", 1), checkpoint_rows=50)
    run(old, Marked(old.spec, MARK))
    return rows, old


def proved(job: EmbedJob, rows: dict[str, str], old: EmbedJob) -> int:
    """Each row has the vector of the old shard's engine, or the right one of this one; how many are the old one's."""
    mark = Marked(old.spec, MARK)
    with tempfile.TemporaryDirectory() as folder:
        table = shard_table(job, Path(folder))
    assert table.num_rows
    kept = 0
    tokenizer = TextTokenizer(byte_tokenizer(), job.spec)
    windows = [(row["id"], window) for row in rows_of(job, rows) for window in tokenizer.windows([row["text"]])[0]]
    sequences = [window.ids for _, window in windows]
    assert table.column("id").to_pylist() == [name for name, _ in windows]
    found = np.asarray(table.column("embedding").combine_chunks().flatten()).reshape(len(windows), -1)
    theirs, mine = embed_list(mark, sequences), embed_list(HashEngine(job.spec), sequences)
    for vector, old_one, new_one in zip(found, theirs, mine, strict=True):
        assert (vector == old_one).all() or (vector == new_one).all(), "a vector that no engine has made of this text"
        kept += bool((vector == old_one).all())
    return kept
