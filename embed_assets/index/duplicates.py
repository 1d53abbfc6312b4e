"""Rows that say the same: texts that are equal, and texts whose vectors are nearly so."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from embed_assets.index.ann import type_of
from embed_assets.index.nearest import stored_vectors
from embed_assets.index.recall import unit
from embed_assets.index.search import SearchTable

NEIGHBOURS = 10
SCHEMA = pa.schema([("kind", pa.string()), ("group", pa.int64()), ("id", pa.string()), ("like", pa.string()),
                    ("cosine", pa.float32())])  # fmt: skip
BATCH = 1_024


@dataclass(frozen=True)
class Duplicates:
    """Groups of rows; each row of one names the row that it is like."""

    table: pa.Table
    rows: int
    exact_groups: int
    exact_rows: int
    near_groups: int
    near_rows: int


def find_duplicates(found: SearchTable, threshold: float) -> Duplicates:
    """By rows' first windows. Where the table has an index, each is compared with its ten nearest, so that near
    duplicates of more rows are found as chains."""
    firsts = found.table.search().where("chunk = 0").select(["id", "text_key", "vector"]).with_row_id(True)
    ids: list[str] = []
    keys: dict[bytes, int] = {}
    exact, near = _Groups(), _Groups()
    rows: dict[int, int] = {}
    for batch in firsts.to_batches(BATCH):
        for id_, key, number in zip(*(batch.column(n).to_pylist() for n in ("id", "text_key", "_rowid")), strict=True):
            row = len(ids)
            ids.append(id_)
            rows[number] = row
            if (first := keys.setdefault(key, row)) != row:
                exact.join(first, row, 1.0)
    for number, other, cosine in _pairs(found, threshold):
        a, b = rows[number], rows[other]
        if exact.root(a) != exact.root(b):
            near.join(exact.root(a), exact.root(b), cosine)
    tables = [exact.table("exact", ids), near.table("near", ids)]
    return Duplicates(pa.concat_tables(tables), len(ids), *exact.counts(), *near.counts())


class _Groups:
    """Rows that are joined, each to the least of its group."""

    def __init__(self) -> None:
        self._parents: dict[int, int] = {}
        self._cosines: dict[int, float] = {}

    def root(self, row: int) -> int:
        while (above := self._parents.get(row, row)) != row:
            row = above
        return row

    def join(self, a: int, b: int, cosine: float) -> None:
        first, second = sorted((self.root(a), self.root(b)))
        for row in (a, b):
            self._parents.setdefault(row, row)
            self._cosines[row] = max(cosine, self._cosines.get(row, -1.0))
        self._parents[second] = first

    def counts(self) -> tuple[int, int]:
        """Groups, and rows in them."""
        return len({self.root(row) for row in self._parents}), len(self._parents)

    def table(self, kind: str, ids: list[str]) -> pa.Table:
        members = sorted(self._parents, key=lambda row: (self.root(row), row))
        roots = [self.root(row) for row in members]
        columns = [
            [kind] * len(members), roots, [ids[row] for row in members], [ids[root] for root in roots],
            [self._cosines[row] for row in members],
        ]  # fmt: skip
        return pa.Table.from_arrays([pa.array(c, f.type) for c, f in zip(columns, SCHEMA, strict=True)], schema=SCHEMA)


def _pairs(found: SearchTable, threshold: float) -> Iterator[tuple[int, int, float]]:
    """Rows as LanceDB numbers them whose first windows are as near as the threshold."""
    if type_of(found.table) == "none":
        yield from _all_pairs(found, threshold)
        return
    for numbers, vectors in _firsts(found):
        for number, vector in zip(numbers, vectors, strict=True):
            for other, cosine in _near(found, vector):
                if other != number and cosine >= threshold:
                    yield number, other, cosine


def _all_pairs(found: SearchTable, threshold: float) -> Iterator[tuple[int, int, float]]:
    """Exactly, by blocks: a table without an index is small."""
    blocks = list(_firsts(found))
    for at, (numbers, vectors) in enumerate(blocks):
        for others, block in blocks[at:]:
            scores = vectors @ block.T
            for a, b in np.argwhere(scores >= threshold).tolist():
                if numbers[a] != others[b]:
                    yield numbers[a], others[b], float(scores[a, b])


def _firsts(found: SearchTable) -> Iterator[tuple[list[int], np.ndarray]]:
    rows = found.table.search().where("chunk = 0").select(["vector"]).with_row_id(True)
    for batch in rows.to_batches(BATCH):
        if len(batch):
            yield batch.column("_rowid").to_pylist(), unit(stored_vectors(batch))


def _near(found: SearchTable, vector: np.ndarray) -> list[tuple[int, float]]:
    query = found.table.search(vector, vector_column_name="vector").distance_type("cosine").limit(NEIGHBOURS)
    query = query.refine_factor(found.search.refine_factor).where("chunk = 0", prefilter=True)
    rows = query.select(["vector", "_distance"]).with_row_id(True).to_arrow()
    cosines = unit(stored_vectors(rows)) @ vector
    return list(zip(rows.column("_rowid").to_pylist(), cosines.tolist(), strict=True))
