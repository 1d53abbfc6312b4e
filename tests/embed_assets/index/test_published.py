"""What is published, and what LanceDB's own faults become."""

import contextlib
import errno
from pathlib import Path
from typing import Any

import lancedb
import numpy as np
import pyarrow as pa
import pytest

from embed_assets.index import ann, build, change, lance
from embed_assets.index.build import LowRecall
from embed_assets.index.nearest import Search, cosines
from embed_assets.index.recall import cure, make_probes, recall
from embed_assets.index.record import read_record
from embed_assets.index.search import published
from embed_assets.spec.index import IndexSpec
from embed_worker.lake.errors import StoreAway, StoreUnavailable
from resources.lake import Lake
from tests.kits import pipelines as kit
from tests.kits.pipelines import Prepared

pytestmark = pytest.mark.slow


def table_of(folder: Path, vectors: np.ndarray) -> Any:
    flat = pa.FixedSizeListArray.from_arrays(pa.array(vectors.astype(np.float32).ravel()), vectors.shape[1])
    rows = pa.table({"id": [str(i) for i in range(len(vectors))], "passage": ["x"] * len(vectors), "vector": flat})
    return lancedb.connect(str(folder)).create_table("t", rows)


def clustered(rows: int, dimension: int) -> np.ndarray:
    random = np.random.default_rng(0)
    centres = random.normal(size=(rows // 100, dimension))
    return centres[random.integers(0, len(centres), rows)] + random.normal(size=(rows, dimension))


@pytest.mark.parametrize("kind", ["IVF_PQ", "IVF_RQ", "IVF_HNSW_SQ"])
def test_each_type_finds_the_nearest_and_recall_says_how_many(tmp_path: Path, kind: ann.IndexType) -> None:
    vectors = clustered(4_000, 64)
    table = table_of(tmp_path, vectors)
    ann.make_index(table, kind, full_text=False)
    probes = make_probes(table, 16)
    for probe, bar in zip(probes.vectors, probes.bars, strict=True):
        assert np.sort(cosines(vectors, probe.tolist()))[-10] == pytest.approx(bar, abs=1e-5)
    good = recall(table, probes, Search(nprobes=50, refine_factor=16))
    assert good >= 0.95
    assert recall(table, probes, Search(exact=True)) == 1.0
    assert recall(table, probes, Search(nprobes=1, refine_factor=1)) <= good


def test_a_refusal_says_which_parameters_reach_it(tmp_path: Path) -> None:
    table = table_of(tmp_path, clustered(4_000, 64))
    ann.make_index(table, "IVF_PQ", full_text=False)
    said = cure(table, make_probes(table, 16), Search(nprobes=1, refine_factor=1), 0.9)
    assert said.startswith("index: {") and "refine_factor" in said


def test_rows_that_the_index_does_not_have_are_found_and_counted(tmp_path: Path) -> None:
    vectors = clustered(2_000, 64)
    table = table_of(tmp_path, vectors[:1_800])
    ann.make_index(table, "IVF_RQ", full_text=False)
    table.add(table_of(tmp_path / "more", vectors[1_800:]).to_arrow())
    assert ann.unindexed(table) == 200
    kept = ann.keep_index(table, "IVF_RQ", full_text=False, trained_rows=1_800, deleted=0)
    assert kept.trained and ann.unindexed(table) == 0, "10 % are too many"
    kept = ann.keep_index(table, "IVF_RQ", full_text=False, trained_rows=2_000, deleted=0)
    assert kept == ann.Kept()


def test_the_first_table_below_the_bar_is_not_published(prepared: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "recall", lambda *_: 0.1)
    with pytest.raises(LowRecall, match=r"recall@10 of d is 0\.100 .* nothing is published"):
        prepared.index(type="IVF_HNSW_SQ")
    assert published(prepared.resource, prepared.pipeline.embedding, "d") is None
    monkeypatch.undo()
    assert prepared.index(type="IVF_HNSW_SQ").record.recall == 1.0


@pytest.mark.parametrize("step", ["append", "delete", "record"])
def test_a_change_that_dies_shows_nothing_and_is_made_again(
    prepared: Prepared, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, step: str
) -> None:
    prepared.index(columns={"n": "int64"})
    before = rows(prepared)
    source = kit.write_jsonl(tmp_path / "other.jsonl", [{**row, "n": row["n"] % 5} for row in kit.texts(18)])
    edited = Prepared(Path(prepared.store.root), str(source))
    for stride in range(3):
        edited.embed(stride)

    def dies(*_: object, **__: object) -> None:
        raise RuntimeError("killed")

    place = {"append": (ann, "keep_index"), "delete": (change, "delete"), "record": (build, "write_record")}[step]
    monkeypatch.setattr(*place, dies)
    with pytest.raises(RuntimeError, match="killed"):
        edited.index(columns={"n": "int64"})
    assert rows(prepared) == before
    monkeypatch.undo()
    made = edited.index(columns={"n": "int64"})
    assert not made.record.rebuilt and made.record.rows == 18
    assert {row["id"]: row["n"] for row in rows(edited)} == {str(i): i % 5 for i in range(18)}


def rows(prepared: Prepared) -> list[dict[str, Any]]:
    found = published(prepared.resource, prepared.pipeline.embedding, "d")
    assert found is not None
    return sorted(found.table.to_arrow().to_pylist(), key=lambda row: (row["id"], row["chunk"]))


def test_a_table_that_cannot_fit_is_refused_before_it_is_begun(
    prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1000})())
    with pytest.raises(StoreUnavailable, match=r"the table of d takes about .* nothing was written"):
        prepared.index()
    assert read_record(prepared.store, "d", prepared.pipeline.embedding.spec_id) is None
    assert prepared.store.list("vector_index") == []


def test_a_full_disk_is_one_sentence(small_disk: Path, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared = Prepared(small_disk / "lake", str(source))
    for stride in range(3):
        prepared.embed(stride)
    with contextlib.suppress(OSError), (small_disk / "filler").open("wb") as filler:
        while True:
            filler.write(bytes(4096))
            filler.flush()
    monkeypatch.setattr(build._Making, "_check_space", lambda *_: None)
    with pytest.raises(StoreUnavailable, match="no space left") as told:
        build.build_index(prepared.resource, prepared.set(), IndexSpec())
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("said", "kind", "words"),
    [
        ("lance error: LanceError(IO): Generic S3 error: builder error: BadScheme\n  backtrace", StoreUnavailable, "AWS_ALLOW_HTTP=true"),
        ("lance error: Generic S3 error: error sending request for url\n  at /root/.cargo", StoreAway, "cannot be reached"),
        (f"External error: No space left on device (os error {errno.ENOSPC})", StoreUnavailable, "no space left"),
    ],
)  # fmt: skip
def test_lances_own_words_become_the_lakes(lake: Path, said: str, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words) as told, lance.lance_errors(Lake(str(lake)), "d"):
        raise RuntimeError(said)
    assert "\n" not in str(told.value)
