"""The part files of a shard."""

from pathlib import Path

import numpy as np
import orjson
import pyarrow.parquet as pq
import pytest

from embed_worker.attempt import parts
from embed_worker.lake.identity import text_key
from embed_worker.lake.store import Store
from embed_worker.lake.table import METADATA_KEY
from tests.kits.attempt.jobs import CountingEngine, make_job, manifest_of, numbers, prove, run, text_of
from tests.kits.attempt.stopped import TEXTS
from tests.kits.processes import wait_until


@pytest.mark.parametrize("limit", [1, 12_000])
def test_parts_are_split_at_their_size(lake: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    monkeypatch.setattr(parts, "PART_BYTES", limit)
    texts: list[str] = [" ", "\t", *TEXTS, "  ", "\n"]
    job = make_job(lake, texts, checkpoint_rows=2)
    run(job)
    rows = numbers(texts)
    prove(job, texts, tmp_path, {rows[i]: "blank text" for i in (0, 1, -2, -1)})
    written = manifest_of(job).files
    assert [p.path for p in written] == [f"part-{i:05d}.parquet" for i in range(len(written))]
    assert all(p.rows for p in written), "no empty part"
    ordered = sorted(texts, key=text_key)
    filled = sum(any(text.strip() for text in ordered[at : at + 2]) for at in range(0, len(texts), 2))
    assert (len(written) == filled) if limit == 1 else (1 < len(written) < filled)


def test_parts_are_written_while_the_engine_is_at_work(
    lake: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "PART_BYTES", 1)
    job = make_job(lake, TEXTS, checkpoint_rows=2)
    store, at_work = Store(lake), []

    class Watching(CountingEngine):
        def hook(self, ids: tuple[int, ...], vector: np.ndarray) -> np.ndarray:
            at_work.append(sum(name.startswith("part-") for name in store.list(job.shard.folder)))
            if text_of(ids) in TEXTS[-2]:  # of the last checkpoint: the earlier ones' parts are about to come
                wait_until(lambda: store.exists(f"{job.shard.folder}/part-00003.parquet"), "the fourth part")
            return vector

    run(job, Watching(job.spec))
    prove(job, TEXTS, tmp_path)
    assert at_work[0] == 0 and len(manifest_of(job).files) == 11


def test_row_groups_are_cut_too(lake: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "ROW_GROUP_BYTES", 1)
    job = make_job(lake, TEXTS)
    run(job)
    prove(job, TEXTS, tmp_path)
    [part] = manifest_of(job).files
    assert pq.ParquetFile(f"{lake}/{job.shard.folder}/{part.path}").num_row_groups == 6


def test_a_part_explains_itself_when_it_is_found_alone(lake: str) -> None:
    job = make_job(lake, TEXTS)
    run(job)
    file = pq.ParquetFile(f"{lake}/{job.shard.folder}/part-00000.parquet")
    about = orjson.loads(file.schema_arrow.metadata[METADATA_KEY])
    assert about["spec_id"] == job.spec.spec_id and about["spec"] == job.spec.identity()
    assert about["partition"] == "books-00003" and about["input_digest"] == job.input.digest
    assert (
        about["partitioning"] == job.shard.partitioning.name and about["pipeline"] == "reviews" and about["format"] == 2
    )
    assert all(not field.nullable for field in file.schema_arrow)
    assert file.metadata.row_group(0).column(0).statistics is None
    assert file.metadata.row_group(0).column(1).statistics.min == text_key(TEXTS[0])
