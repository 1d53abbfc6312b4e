"""Nearest rows of a dataset's table."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from embed_assets.index.table import open_table
from embed_assets.spec import EmbeddingPipeline
from embed_worker.lake.spec import EmbeddingSpec
from resources.lake import Lake

WINDOWS_A_ROW = 4
"""Windows that are asked for at first, for each row that is wanted."""
REFINE = 4
"""An approximate index looks at this many times as many, by their stored vectors."""


@dataclass(frozen=True)
class SearchTable:
    """A dataset's table and the spec its vectors were made with."""

    dataset: str
    spec: EmbeddingSpec
    table: Any


@dataclass(frozen=True)
class Hit:
    """One result. `score` is the cosine similarity; `passage` is the window of the text that matched."""

    score: float
    id: str
    chunk: int
    passage: str


def find_table(lake: Lake, pipelines: Sequence[EmbeddingPipeline], dataset: str | None) -> SearchTable:
    """The table of a dataset; without a name the only one there is. Raises ValueError saying what there is."""
    known = {d.name: p for p in pipelines for d in p.datasets}
    if dataset is not None and dataset not in known:
        raise ValueError(f"no dataset {dataset!r}; there are {', '.join(known) or 'none'}")
    names = [dataset] if dataset is not None else list(known)
    tables = {name: open_table(lake, known[name].embedding.spec_id, name) for name in names}
    built = [name for name, table in tables.items() if table is not None]
    if not built:
        raise ValueError(f"no vector_index of {', '.join(names)} in {lake.root}; materialize it first")
    if len(built) > 1:
        raise ValueError(f"several datasets can be searched; say which: --dataset {' | '.join(built)}")
    return SearchTable(built[0], known[built[0]].embedding, tables[built[0]])


def search_table(found: SearchTable, vector: list[float], limit: int) -> list[Hit]:
    """The nearest rows, best first, each with its best window; fewer than `limit` only where there are no more."""
    size, exact = WINDOWS_A_ROW * limit, False
    best: dict[str, _Window] = {}
    while len(best) < limit:
        windows = _nearest(found.table, vector, size, [*best], exact)
        for window in windows:
            best.setdefault(window.id, window)
        if len(windows) < size:  # no more rows; or an approximate index that did not reach them
            if exact:
                break
            exact = True
        size *= 2
    return _hits(found.table, sorted(best.values(), key=_Window.order)[:limit])


@dataclass(frozen=True)
class _Window:
    score: float
    id: str
    key: int
    """LanceDB's own number of the table's row."""

    def order(self) -> tuple[float, str]:
        return -self.score, self.id


def _nearest(table: Any, vector: list[float], size: int, without: list[str], exact: bool) -> list[_Window]:
    """The best windows first. Texts are not read here: a long one would come once with each of its windows."""
    query = table.search(vector, vector_column_name="vector").metric("cosine").limit(size).refine_factor(REFINE)
    if without:
        query = query.where(f"id NOT IN ({', '.join(map(_quoted, without))})", prefilter=True)
    if exact:
        query = query.bypass_vector_index()
    rows = query.select(["id", "vector", "_distance"]).with_row_id(True).to_arrow()
    vectors = np.stack(rows.column("vector").to_numpy()) if len(rows) else np.empty((0, len(vector)))
    scores = cosines(vectors, vector).tolist()
    columns = (scores, rows.column("id").to_pylist(), rows.column("_rowid").to_pylist())
    return sorted(itertools.starmap(_Window, zip(*columns, strict=True)), key=_Window.order)


def _quoted(value: str) -> str:
    """A text in SQL."""
    return "'" + value.replace("'", "''") + "'"


def cosines(vectors: np.ndarray, vector: list[float]) -> np.ndarray:
    """Of the stored vectors themselves: the distance an index gives is that of its compressed ones."""
    many, one = vectors.astype(np.float64), np.asarray(vector, np.float64)
    norms = np.linalg.norm(many, axis=1) * np.linalg.norm(one)
    scores = np.zeros(len(many))
    np.divide(many @ one, norms, out=scores, where=norms > 0)
    return scores


def _hits(table: Any, windows: list[_Window]) -> list[Hit]:
    if not windows:
        return []
    columns = ["id", "chunk", "char_start", "char_end", "text"]
    taken = table.take_row_ids([window.key for window in windows]).select(columns).with_row_id().to_list()
    rows = {row["_rowid"]: row for row in taken}
    return [_hit(window.score, rows[window.key]) for window in windows]


def _hit(score: float, row: dict[str, Any]) -> Hit:
    passage = row["text"][row["char_start"] : row["char_end"]]
    return Hit(score, row["id"], row["chunk"], passage)
