"""The nearest vectors of a table, with their true cosines."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

WINDOWS_A_ROW = 4
"""Windows that are asked for at first, for each row that is wanted."""


@dataclass(frozen=True)
class Search:
    """How a table is asked."""

    nprobes: int | None = None
    """Partitions of the index that are looked into; None: LanceDB's default."""
    refine_factor: int = 4
    """An approximate index looks at this many times as many, by their stored vectors."""
    where: str | None = None
    """A filter in SQL."""
    exact: bool = False

    @staticmethod
    def windows(rows: int) -> int:
        return WINDOWS_A_ROW * rows


@dataclass(frozen=True)
class Window:
    score: float
    id: str
    key: int
    """LanceDB's own number of the table's row."""

    def order(self) -> tuple[float, str]:
        return -self.score, self.id


def nearest(table: Any, vector: list[float], size: int, search: Search, without: Sequence[str] = ()) -> list[Window]:
    """The best windows first. Texts are not read here: a long one would come once with each of its windows."""
    query = table.search(vector, vector_column_name="vector").distance_type("cosine").limit(size)
    query = query.refine_factor(search.refine_factor)
    if search.nprobes is not None:
        query = query.nprobes(search.nprobes)
    conditions = [f"({search.where})"] if search.where else []
    if without:
        conditions.append(f"id NOT IN ({', '.join(map(quoted, without))})")
    if conditions:
        query = query.where(" AND ".join(conditions), prefilter=True)
    if search.exact:
        query = query.bypass_vector_index()
    return windows_of(query.select(["id", "vector", "_distance"]).with_row_id(True).to_arrow(), vector)


def windows_of(rows: Any, vector: list[float]) -> list[Window]:
    """Of a table with id, vector and _rowid."""
    vectors = stored_vectors(rows) if len(rows) else np.empty((0, len(vector)))
    scores = cosines(vectors, vector).tolist()
    columns = (scores, rows.column("id").to_pylist(), rows.column("_rowid").to_pylist())
    return sorted(itertools.starmap(Window, zip(*columns, strict=True)), key=Window.order)


def stored_vectors(rows: Any) -> np.ndarray:
    """The column `vector` of an Arrow table or batch: shape [rows, dimension]."""
    column = rows.column("vector")
    chunks = getattr(column, "chunks", [column])
    flat = [one.flatten().to_numpy(zero_copy_only=False) for one in chunks]
    return np.concatenate(flat).reshape(len(rows), -1)


def quoted(value: str) -> str:
    """A text in SQL."""
    return "'" + value.replace("'", "''") + "'"


def cosines(vectors: np.ndarray, vector: list[float]) -> np.ndarray:
    """Of the stored vectors themselves: the distance an index gives is that of its compressed ones."""
    many, one = vectors.astype(np.float64), np.asarray(vector, np.float64)
    norms = np.linalg.norm(many, axis=1) * np.linalg.norm(one)
    scores = np.zeros(len(many))
    np.divide(many @ one, norms, out=scores, where=norms > 0)
    return scores
