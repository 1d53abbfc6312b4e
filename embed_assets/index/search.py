"""Nearest rows of a dataset's table."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from embed_assets.index.table import open_table
from embed_assets.spec import EmbeddingPipeline
from embed_worker.lake.spec import EmbeddingSpec
from resources.lake import Lake


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
    row_id: int
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
    """Best windows first; a row counts once, with its best window."""
    rows = found.table.search(vector, vector_column_name="vector").metric("cosine").limit(limit * 4).to_list()
    best: dict[int, Hit] = {}
    for row in rows:
        if row["row_id"] not in best:
            passage = row["text"][row["char_start"] : row["char_end"]]
            best[row["row_id"]] = Hit(1.0 - row["_distance"], row["id"], row["row_id"], row["chunk"], passage)
    return list(best.values())[:limit]
