"""Nearest rows of a dataset's published table."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from embed_assets.index import lance
from embed_assets.index.nearest import Search, Window, nearest, quoted, windows_of
from embed_assets.index.record import IndexRecord, read_record
from embed_assets.spec import EmbeddingPipeline
from embed_worker.extras import need
from embed_worker.lake.spec import EmbeddingSpec
from resources.lake import Lake


@dataclass(frozen=True)
class SearchTable:
    """A dataset's table, the spec its vectors were made with, and how it is asked."""

    dataset: str
    spec: EmbeddingSpec
    table: Any
    search: Search = field(default_factory=Search)
    columns: dict[str, str] = field(default_factory=dict)
    full_text: bool = False


@dataclass(frozen=True)
class Hit:
    """One result. `score` is the cosine similarity; `passage` is the window of the text that matched."""

    score: float
    id: str
    chunk: int
    passage: str
    dataset: str = ""
    columns: dict[str, Any] = field(default_factory=dict)


def published(lake: Lake, spec: EmbeddingSpec, dataset: str) -> SearchTable | None:
    """The version of a dataset's table that readers take, or None before the first."""
    record = read_record(lake.store, dataset, spec.spec_id)
    return open_tables(lake, [Searchable(spec, record)])[0] if record is not None else None


@dataclass(frozen=True)
class Searchable:
    """A published table that is not opened yet, and the spec its vectors were made with."""

    spec: EmbeddingSpec
    record: IndexRecord


def find_records(lake: Lake, pipelines: Sequence[EmbeddingPipeline], datasets: Sequence[str]) -> list[Searchable]:
    """Of these datasets; without names all there are. Raises ValueError saying what there is."""
    need("index")  # before anything else: without it no table is read
    known = {d.name: p.embedding for p in pipelines for d in p.datasets}
    for name in datasets:
        if name not in known:
            raise ValueError(f"no dataset {name!r}; there are {', '.join(known) or 'none'}")
    names = list(dict.fromkeys(datasets)) or list(known)
    found = {name: read_record(lake.store, name, known[name].spec_id) for name in names}
    there = [Searchable(known[name], record) for name, record in found.items() if record is not None]
    if missing := [name for name, record in found.items() if record is None] if datasets or not there else []:
        raise ValueError(f"no vector_index of {', '.join(missing)} in {lake.root}; materialize it first")
    return there


def open_tables(lake: Lake, found: Sequence[Searchable]) -> list[SearchTable]:
    tables = []
    for one in found:
        record = one.record
        table = lance.open_version(lake, record)
        if table is None:
            raise ValueError(f"the vector_index of {record.dataset} in {lake.root} is gone; materialize it again")
        search = Search(record.nprobes, record.refine_factor)
        tables.append(SearchTable(record.dataset, one.spec, table, search, record.columns, record.full_text))
    return tables


def find_tables(lake: Lake, pipelines: Sequence[EmbeddingPipeline], datasets: Sequence[str]) -> list[SearchTable]:
    return open_tables(lake, find_records(lake, pipelines, datasets))


def search_table(found: SearchTable, vector: list[float], limit: int, where: str | None = None) -> list[Hit]:
    """The nearest rows, best first, each with its best window; fewer than `limit` only where there are no more."""
    search = replace(found.search, where=where)
    size, best = search.windows(limit), dict[str, Window]()
    while len(best) < limit:
        windows = nearest(found.table, vector, size, search, [*best])
        for window in windows:
            best.setdefault(window.id, window)
        if len(windows) < size:  # no more rows; or an approximate index that did not reach them
            if search.exact:
                break
            search = replace(search, exact=True)
        size *= 2
    return _hits(found, sorted(best.values(), key=Window.order)[:limit])


def hybrid_search(found: SearchTable, vector: list[float], words: str, limit: int, where: str | None) -> list[Hit]:
    """The nearest rows and those that have the words, by reciprocal ranks. The score is still the cosine."""
    from lancedb.rerankers import RRFReranker

    if not found.full_text:
        raise ValueError(
            f"{found.dataset} has no index of words: set index.full_text: true, and materialize vector_index"
        )
    size, best = found.search.windows(limit), dict[str, Window]()
    while True:
        query = found.table.search(query_type="hybrid", vector_column_name="vector", fts_columns="passage")
        query = query.vector(vector).text(words).distance_type("cosine").refine_factor(found.search.refine_factor)
        if found.search.nprobes is not None:
            query = query.nprobes(found.search.nprobes)
        if where:
            query = query.where(where, prefilter=True)
        rows = query.limit(size).rerank(RRFReranker()).with_row_id(True).to_arrow()
        ranked = rows.column("_rowid").to_pylist()
        scored = {window.key: window for window in windows_of(rows, vector)}
        for key in ranked:
            best.setdefault(scored[key].id, scored[key])
        if len(best) >= limit or len(ranked) < size:
            return _hits(found, [*best.values()][:limit])
        size *= 2


def vector_of(found: SearchTable, id_: str) -> list[float]:
    """Of a row's first window. Raises ValueError where there is no such row."""
    rows = found.table.search().where(f"id = {quoted(id_)}").select(["chunk", "vector"]).to_list()
    if not rows:
        raise ValueError(f"{found.dataset} has no row {id_!r}")
    vector: list[float] = min(rows, key=lambda row: row["chunk"])["vector"]
    return vector


def _hits(found: SearchTable, windows: list[Window]) -> list[Hit]:
    if not windows:
        return []
    columns = ["id", "chunk", "passage", *found.columns]
    keys = [window.key for window in windows]
    taken = found.table.take_row_ids(keys).select(columns).with_row_id().to_list()
    rows = {row["_rowid"]: row for row in taken}
    return [_hit(found, window.score, rows[window.key]) for window in windows]


def _hit(found: SearchTable, score: float, row: dict[str, Any]) -> Hit:
    values = {name: row[name] for name in found.columns}
    return Hit(score, row["id"], row["chunk"], row["passage"], found.dataset, values)
