"""Which index a table gets, and what it costs."""

import pytest

from embed_assets.estimate.indexing import plan_index

GB = 1 << 30


@pytest.mark.parametrize(
    ("rows", "dimension", "memory", "kind"),
    [
        (13_891, 384, 16 * GB, "none"),
        (99_000, 3_584, 16 * GB, "IVF_RQ"),  # a scan would read 1.4 GB a query
        (200_000, 384, 16 * GB, "IVF_RQ"),
        (29_500_000, 3_584, 16 * GB, "IVF_RQ"),
        (200_000, 128, 16 * GB, "IVF_HNSW_SQ"),
        (200_000, 301, 16 * GB, "IVF_HNSW_SQ"),
        (200_000_000, 128, 1 << 60, "IVF_PQ"),  # hours of a graph
        (200_000, 128, GB // 100, "IVF_PQ"),  # no memory for one
    ],
)
def test_the_type_follows_rows_dimension_and_memory(rows: int, dimension: int, memory: int, kind: str) -> None:
    assert plan_index(rows, dimension, 4, memory=memory).type == kind


def test_the_spec_has_the_last_word() -> None:
    chosen = plan_index(1_000, 384, 4, wanted="IVF_HNSW_SQ")
    assert chosen.type == "IVF_HNSW_SQ" and chosen.bytes > 384_000 and chosen.core_seconds > 0


def test_a_graph_of_the_large_example_takes_core_hours_as_measured() -> None:
    """33 to 82 of them."""
    graph = plan_index(29_500_000, 3_584, 2, wanted="IVF_HNSW_SQ")
    assert 33 <= graph.core_seconds / 3600 <= 82
    assert graph.table_bytes == pytest.approx(211e9 + 29.5e6 * 64, rel=0.01)
