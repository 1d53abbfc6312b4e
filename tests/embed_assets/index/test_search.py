"""Search: different rows, however many windows one has, and the true cosine, on small tables made here."""

from pathlib import Path

import lancedb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embed_assets.index import table as tables
from embed_assets.index.search import Hit, SearchTable, cosines, search_table
from tests.kits import pipelines as kit

DIMENSION = 16


def made(folder: Path, counts: list[int], vectors: np.ndarray, kind: pa.DataType | None = None) -> SearchTable:
    """Row i has counts[i] windows, one character each."""
    rows = np.repeat(np.arange(len(counts)), counts)
    chunks = np.concatenate([np.arange(count) for count in counts])
    flat = pa.array(vectors.astype(np.float32).ravel()).cast(kind or pa.float32())
    data = pa.table(
        {
            "id": [f"id{row}" for row in rows],
            "chunk": pa.array(chunks, pa.int32()),
            "char_start": pa.array(chunks, pa.int32()),
            "char_end": pa.array(chunks + 1, pa.int32()),
            "text": [chr(0x4E00 + row) * counts[row] for row in rows],
            "vector": pa.FixedSizeListArray.from_arrays(flat, DIMENSION),
        }
    )
    return SearchTable("d", kit.spec(), lancedb.connect(str(folder)).create_table("d", data, mode="overwrite"))


def row_of(hit: Hit) -> int:
    return int(hit.id.removeprefix("id"))


def near(query: np.ndarray, noise: list[float], seed: int = 0) -> np.ndarray:
    """Vectors that are the further from the query, the more noise they have; of any length."""
    random = np.random.default_rng(seed)
    off = random.normal(size=(len(noise), DIMENSION))
    return (query + off * np.asarray(noise)[:, None]) * random.uniform(0.5, 2, (len(noise), 1))


def expected(counts: list[int], vectors: np.ndarray, query: np.ndarray, limit: int) -> list[float]:
    """The best cosine of each row, by brute force."""
    scores = cosines(vectors, query.tolist())
    starts = np.cumsum([0, *counts[:-1]])
    return sorted((scores[a : a + n].max() for a, n in zip(starts, counts, strict=True)), reverse=True)[:limit]


def indexed(found: SearchTable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "ANN_ROWS", 1)
    tables._index(found.table)
    found.table.checkout_latest()
    assert [str(index.index_type) for index in found.table.list_indices()] == ["IvfHnswSq"]


@pytest.mark.parametrize("ann", [False, True])
def test_a_long_text_does_not_hide_the_other_rows(tmp_path: Path, ann: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    query = np.random.default_rng(1).normal(size=DIMENSION)
    counts = [600, *[1] * 12]
    vectors = near(query, [0.05] * 600 + [0.5] * 12)
    found = made(tmp_path, counts, vectors)
    if ann:
        indexed(found, monkeypatch)
    for limit in (1, 5, 13, 50):
        hits = search_table(found, query.tolist(), limit)
        assert len({hit.id for hit in hits}) == len(hits) == min(limit, 13)
        assert hits[0].id == "id0"
    assert [hit.score for hit in hits] == pytest.approx(expected(counts, vectors, query, 50), abs=1e-6)


@pytest.mark.parametrize("ann", [False, True])
@pytest.mark.parametrize("kind", [pa.float32(), pa.float16()], ids=str)
def test_the_score_is_the_cosine_whatever_the_index(
    tmp_path: Path, ann: bool, kind: pa.DataType, monkeypatch: pytest.MonkeyPatch
) -> None:
    query = np.random.default_rng(2).normal(size=DIMENSION)
    vectors = near(query, np.linspace(0.1, 3, 2000).tolist())
    found = made(tmp_path, [1] * 2000, vectors, kind)
    if ann:
        indexed(found, monkeypatch)
    hits = search_table(found, query.tolist(), 5)
    true = cosines(vectors, query.tolist())
    assert [hit.score for hit in hits] == pytest.approx([true[row_of(hit)] for hit in hits], abs=2e-3)
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    assert hits[0].score == pytest.approx(true.max(), abs=2e-3)


@settings(max_examples=25, deadline=None)
@given(counts=st.lists(st.integers(1, 40), min_size=1, max_size=8), limit=st.integers(1, 10), seed=st.integers(0, 99))
def test_hits_are_the_best_windows_of_the_nearest_rows(
    tmp_path_factory: pytest.TempPathFactory, counts: list[int], limit: int, seed: int
) -> None:
    random = np.random.default_rng(seed)
    query, vectors = random.normal(size=DIMENSION), random.normal(size=(sum(counts), DIMENSION))
    found = made(tmp_path_factory.mktemp("table"), counts, vectors)
    hits = search_table(found, query.tolist(), limit)
    assert [hit.score for hit in hits] == pytest.approx(expected(counts, vectors, query, limit), abs=1e-6)
    starts = np.cumsum([0, *counts[:-1]])
    for hit in hits:
        place = starts[row_of(hit)] + hit.chunk
        assert hit.score == pytest.approx(cosines(vectors[place : place + 1], query.tolist())[0], abs=1e-6)
        assert hit.passage == chr(0x4E00 + row_of(hit))


def test_a_vector_of_nothing_is_like_none() -> None:
    assert cosines(np.zeros((2, 3)), [1.0, 0.0, 0.0]).tolist() == [0.0, 0.0]
