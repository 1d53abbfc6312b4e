"""The approximate index of a table: made, and kept in step with its rows."""

from dataclasses import dataclass
from typing import Any

from embed_assets.estimate.indexing import IndexType

UNINDEXED_SHARE, UNINDEXED_ROWS = 0.05, 100_000
"""Above either of them, rows that the index does not have are put into it."""
DELETED_SHARE = 0.1
"""Above it the table's files are written anew without the rows that are gone."""
GROWN = 1.25
"""An index whose table has grown by so much since it was trained is trained anew."""
VECTOR, PASSAGE = "vector_idx", "passage_idx"
NAMES: dict[str, IndexType] = {"IvfPq": "IVF_PQ", "IvfRq": "IVF_RQ", "IvfHnswSq": "IVF_HNSW_SQ"}


def type_of(table: Any) -> IndexType:
    found = _config(table, VECTOR)
    return NAMES[str(found.index_type)] if found is not None else "none"


def make_index(table: Any, kind: IndexType, *, full_text: bool) -> None:
    """From nothing, in place of any that is there."""
    from lancedb.index import FTS, HnswSq, IvfPq, IvfRq

    if kind != "none":
        config = {"IVF_PQ": IvfPq, "IVF_RQ": IvfRq, "IVF_HNSW_SQ": HnswSq}[kind](distance_type="cosine")
        table.create_index("vector", config=config, replace=True, name=VECTOR)
    elif _config(table, VECTOR) is not None:
        table.drop_index(VECTOR)
    _keep_full_text(table, FTS, full_text)


@dataclass(frozen=True)
class Kept:
    """What was done to an index after a change of its table."""

    trained: bool = False
    optimized: bool = False


def keep_index(table: Any, kind: IndexType, *, full_text: bool, trained_rows: int, deleted: int) -> Kept:
    """By the rules of docs/index.md."""
    from lancedb.index import FTS

    rows = table.count_rows()
    tail = unindexed(table)
    behind = tail > UNINDEXED_ROWS or tail > UNINDEXED_SHARE * rows or deleted > DELETED_SHARE * (rows + deleted)
    grown = kind != "none" and rows > GROWN * max(trained_rows, 1)
    if behind:
        table.optimize()
    # LanceDB's merge of segments of IVF_RQ has lost recall in silence; to train it anew takes seconds
    if type_of(table) != kind or grown or (behind and kind == "IVF_RQ"):
        make_index(table, kind, full_text=full_text)
        return Kept(trained=True, optimized=behind)
    _keep_full_text(table, FTS, full_text)
    return Kept(optimized=behind)


def unindexed(table: Any) -> int:
    """The most rows that one of its indices does not have."""
    return max((index.num_unindexed_rows or 0 for index in table.list_indices()), default=0)


def index_bytes(table: Any) -> int:
    return sum(index.size_bytes or 0 for index in table.list_indices())


def _keep_full_text(table: Any, config: Any, wanted: bool) -> None:
    there = _config(table, PASSAGE) is not None
    if wanted and not there:
        table.create_index("passage", config=config(), name=PASSAGE)
    elif there and not wanted:
        table.drop_index(PASSAGE)


def _config(table: Any, name: str) -> Any:
    return next((index for index in table.list_indices() if index.name == name), None)
