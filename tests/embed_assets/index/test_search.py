"""Search: different rows, however many windows one has, and the true cosine, on small tables made here."""

from dataclasses import replace
from pathlib import Path

import lancedb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embed_assets.index import ann as anns
from embed_assets.index.nearest import cosines
from embed_assets.index.search import Hit, SearchTable, hybrid_search, search_table
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
            "passage": [chr(0x4E00 + row) for row in rows],
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


TYPES = ["none", "IVF_PQ", "IVF_RQ", "IVF_HNSW_SQ"]


def indexed(found: SearchTable, kind: anns.IndexType, *, full_text: bool = False) -> None:
    anns.make_index(found.table, kind, full_text=full_text)
    assert anns.type_of(found.table) == kind


@pytest.mark.parametrize("kind", TYPES)
def test_a_long_text_does_not_hide_the_other_rows(tmp_path: Path, kind: anns.IndexType) -> None:
    query = np.random.default_rng(1).normal(size=DIMENSION)
    counts = [600, *[1] * 12]
    vectors = near(query, [0.05] * 600 + [0.5] * 12)
    found = made(tmp_path, counts, vectors)
    indexed(found, kind)
    for limit in (1, 5, 13, 50):
        hits = search_table(found, query.tolist(), limit)
        assert len({hit.id for hit in hits}) == len(hits) == min(limit, 13)
        assert hits[0].id == "id0"
    assert [hit.score for hit in hits] == pytest.approx(expected(counts, vectors, query, 50), abs=1e-6)


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("stored", [pa.float32(), pa.float16()], ids=str)
def test_the_score_is_the_cosine_whatever_the_index(tmp_path: Path, kind: anns.IndexType, stored: pa.DataType) -> None:
    query = np.random.default_rng(2).normal(size=DIMENSION)
    vectors = near(query, np.linspace(0.1, 3, 2000).tolist())
    found = made(tmp_path, [1] * 2000, vectors, stored)
    indexed(found, kind)
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


def test_words_and_meaning_together(tmp_path: Path) -> None:
    """The row that alone has the word comes up, however far its vector is; the score is its cosine."""
    query = np.random.default_rng(3).normal(size=DIMENSION)
    vectors = np.concatenate([near(query, [0.1] * 300), -query[None]])
    found = made(tmp_path, [1] * 301, vectors)
    found = replace(found, full_text=True)
    indexed(found, "none", full_text=True)
    word = chr(0x4E00 + 300)
    assert search_table(found, query.tolist(), 5)[0].score > 0.8
    hits = hybrid_search(found, query.tolist(), word, 5, None)
    assert len({hit.id for hit in hits}) == 5
    assert [hit.score for hit in hits if hit.id == "id300"] == pytest.approx([-1], abs=1e-6)


def test_without_an_index_of_words_the_key_is_named(tmp_path: Path) -> None:
    found = made(tmp_path, [1], np.ones((1, DIMENSION)))
    with pytest.raises(ValueError, match=r"index\.full_text: true"):
        hybrid_search(found, [1.0] * DIMENSION, "a", 5, None)
