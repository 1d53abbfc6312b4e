"""The shard that a whole job makes with the hash engine, on a folder and on S3."""

from pathlib import Path

import numpy as np
import pyarrow as pa

from embed_worker.engine.loading import CANARY_TEXTS
from embed_worker.lake.spec import digest_of
from tests.kits.attempt.jobs import (
    CountingEngine,
    leftovers,
    make_job,
    manifest_of,
    numbers,
    prove,
    run,
    text_of,
)
from tests.kits.attempt.stopped import TEXTS


def test_a_complete_run(any_lake: str, tmp_path: Path) -> None:
    job = make_job(any_lake, TEXTS, slices=3)
    assert run(job) is True
    table = prove(job, TEXTS, tmp_path)
    assert table.num_rows > len(TEXTS), "some text must make several windows"
    manifest = manifest_of(job)
    assert (manifest.checkpoints, manifest.checkpoint_rows, manifest.dimension) == (6, 4, 32)
    assert (manifest.rows_in, manifest.rows_embedded, manifest.rows_rejected) == (22, 22, 0)
    assert manifest.spec == job.spec and manifest.input == job.input
    assert manifest.engine["engine"] == "hash" and (manifest.hardware.cores or 0) >= 1
    [attempt] = manifest.attempts
    assert {"attempt", "started_at", "host", "pid"} == set(attempt.note()) and attempt.begins_a_start
    assert {"read", "load_model", "tokenise", "write", "engine", "total"} <= set(manifest.seconds)
    assert manifest.canaries is not None and manifest.canaries.texts_digest == digest_of(CANARY_TEXTS)
    assert leftovers(job) == []


def test_the_shard_is_the_same_however_it_is_cut(lake: str, tmp_path: Path) -> None:
    tables = []
    for number, rows in enumerate((1, 4, 7, 22, 1000)):
        job = make_job(f"{lake}-{number}", TEXTS, checkpoint_rows=rows)
        assert run(job)
        folder = tmp_path / str(number)
        folder.mkdir()
        tables.append(prove(job, TEXTS, folder))
    assert all(table.equals(tables[0]) for table in tables)


def test_an_empty_partition_is_committed(lake: str, tmp_path: Path) -> None:
    job = make_job(lake, [])
    assert run(job) is True
    manifest = manifest_of(job)
    assert (manifest.rows_in, manifest.windows, manifest.files, manifest.dimension) == (0, 0, [], None)
    assert leftovers(job) == []


def test_float16_and_not_normalised(lake: str, tmp_path: Path) -> None:
    job = make_job(lake, TEXTS, output_dtype="float16", normalize=False)
    run(job)
    table = prove(job, TEXTS, tmp_path)
    assert table.schema.field("embedding").type == pa.list_(pa.field("element", pa.float16(), nullable=False), 32)
    assert manifest_of(job).dtype == "float16"


def test_the_document_prompt_is_embedded_and_changes_the_place(lake: str, tmp_path: Path) -> None:
    plain, prompted = make_job(lake, TEXTS), make_job(f"{lake}2", TEXTS, prompts={"document": "doc: "})
    assert plain.shard.folder != prompted.shard.folder
    run(prompted)
    prove(prompted, TEXTS, tmp_path)


def test_truncated_texts_have_one_window(lake: str, tmp_path: Path) -> None:
    job = make_job(lake, TEXTS, long_texts="truncate")
    run(job)
    assert prove(job, TEXTS, tmp_path).num_rows == len(TEXTS)


def test_rejects_are_kept_with_their_reasons(any_lake: str, tmp_path: Path) -> None:
    texts: list[str] = ["\t", "", "  \n", *TEXTS[:5], "refused by the engine", " ", "makes a nan", "fine"]

    class Faulty(CountingEngine):
        def hook(self, ids: tuple[int, ...], vector: np.ndarray) -> np.ndarray | str:
            if "refused" in text_of(ids):
                return "engine: too long"
            if "nan" in text_of(ids):
                vector[3] = np.nan
            return vector

    job = make_job(any_lake, texts, checkpoint_rows=3)  # the first checkpoint has rejects alone
    assert run(job, Faulty(job.spec))
    rows = numbers(texts)
    reasons = {
        0: "blank text",
        1: "blank text",
        2: "blank text",
        8: "engine: too long",
        9: "blank text",
        10: "non-finite vector",
    }
    prove(job, texts, tmp_path, {rows[i]: reason for i, reason in reasons.items()})
    manifest = manifest_of(job)
    assert manifest.rejects_by_reason == {
        "blank text": 4, "engine: too long": 1, "non-finite vector": 1,
    }  # fmt: skip
    assert manifest.rejects is not None and manifest.rejects.rows == 6
    assert (manifest.rows_in, manifest.rows_embedded, manifest.rows_rejected) == (12, 6, 6)
    assert leftovers(job) == []


def test_a_partition_of_rejects_alone(lake: str, tmp_path: Path) -> None:
    texts: list[str] = ["\t", "", "\t", " ", "\n"]
    job = make_job(lake, texts, checkpoint_rows=2)
    assert run(job)
    rows = numbers(texts)
    reasons = ["blank text", "blank text", "blank text", "blank text", "blank text"]
    prove(job, texts, tmp_path, dict(zip(rows, reasons, strict=True)))
    assert manifest_of(job).files == [] and manifest_of(job).dimension is None


def test_duplicates_are_embedded_once(lake: str, tmp_path: Path) -> None:
    texts: list[str] = ["same", "same", "other", "same", "same", "other", "other", "new"]
    job = make_job(lake, texts, checkpoint_rows=4)
    engine = CountingEngine(job.spec)
    canaries = len(CANARY_TEXTS)
    run(job, engine)
    assert sorted(map(text_of, engine.seen[-3:])) == ["new", "other", "same"]
    assert len(engine.seen) in (3, 3 + canaries)
    table = prove(job, texts, tmp_path)
    by_text: dict[bytes, set[tuple[float, ...]]] = {}
    for row in table.to_pylist():
        by_text.setdefault(row["text_key"], set()).add(tuple(row["embedding"]))
    assert len(by_text) == 3 and all(len(vectors) == 1 for vectors in by_text.values())
    assert manifest_of(job).duplicate_windows == 5


def test_a_long_text_of_many_windows(lake: str, tmp_path: Path) -> None:
    texts: list[str] = ["before", "0123456789" * 500, "after"]
    job = make_job(lake, texts, checkpoint_rows=2)
    run(job)
    assert prove(job, texts, tmp_path).num_rows > 190
