"""How many of the truly nearest vectors a search in a table finds."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from embed_assets.index.nearest import Search, nearest, stored_vectors

AT = 10
PROBES = 64
SAME = 1e-5
"""Cosines that differ by less are of vectors equally near."""
TRIED = ((None, 16), (50, 4), (50, 16), (200, 16), (1000, 64))
"""Parameters that a refusal looks at: nprobes, refine_factor."""
SCAN_ROWS = 4_096


@dataclass(frozen=True)
class Probes:
    """Vectors that are near rows of the table and none of them, and how near its tenth nearest row is to each."""

    vectors: np.ndarray
    bars: np.ndarray


def make_probes(table: Any, count: int = PROBES) -> Probes:
    """Reads every vector once. A probe lies between two rows, nearer to the first."""
    rows = table.count_rows()
    chosen = np.random.default_rng(0).choice(rows, min(2 * count, rows), replace=False)
    taken = table.take_offsets(sorted(chosen.tolist())).select(["vector"]).to_arrow()
    found = unit(stored_vectors(taken))
    np.random.default_rng(1).shuffle(found)
    vectors = unit(found + 0.5 * np.roll(found, 1, axis=0))[:count]
    best = np.full((len(vectors), min(AT, rows)), -np.inf, np.float32)
    for batch in _all_vectors(table):
        scores = vectors @ unit(batch).T
        together = np.concatenate([best, scores], axis=1)
        best = -np.partition(-together, best.shape[1] - 1, axis=1)[:, : best.shape[1]]
    return Probes(vectors, best.min(axis=1))


def recall(table: Any, probes: Probes, search: Search) -> float:
    """At 10, as `embed-assets search -n 10` asks."""
    hits = 0
    for vector, bar in zip(probes.vectors, probes.bars, strict=True):
        found = nearest(table, vector.tolist(), search.windows(AT), search)[:AT]
        hits += sum(window.score >= bar - SAME for window in found)
    return hits / float(len(probes.bars) * min(AT, table.count_rows()))


def cure(table: Any, probes: Probes, search: Search, wanted: float) -> str:
    """The first parameters that would reach it, as keys of the pipeline file."""
    for nprobes, refine in TRIED:
        reached = recall(table, probes, replace(search, nprobes=nprobes, refine_factor=refine))
        if reached >= wanted:
            keys = [f"nprobes: {nprobes}"] if nprobes else []
            return f"index: {{{', '.join([*keys, f'refine_factor: {refine}'])}}} reaches {reached:.3f}"
    return "no parameters reach it: set index.type to IVF_HNSW_SQ, or to none"


def unit(vectors: np.ndarray) -> np.ndarray:
    """At length 1, float32; a vector of nothing stays so."""
    many = vectors.astype(np.float32)
    norms = np.linalg.norm(many, axis=1, keepdims=True)
    return many / np.where(norms > 0, norms, 1)


def _all_vectors(table: Any) -> Iterator[np.ndarray]:
    for batch in table.search().select(["vector"]).to_batches(SCAN_ROWS):
        if len(batch):
            yield stored_vectors(batch)
