"""Vectors remembered across checkpoints: right ones, bounded, and not computed twice."""

from pathlib import Path

import numpy as np

from embed_worker.attempt.vector_cache import LONGEST, VectorCache
from tests.kits.attempt.jobs import CountingEngine, make_job, manifest_of, prove, run


def test_the_latest_are_kept_within_the_limit() -> None:
    cache = VectorCache(limit=3 * 16)
    vectors = {(i,): np.full(4, i, dtype=np.float32) for i in range(5)}
    for ids, vector in vectors.items():
        cache.put(ids, vector)
        cache.put(ids, vector)  # again: counted once
        assert cache.get((0,)) is not None, "what is asked for stays"
    assert cache.get((1,)) is None and cache.get((2,)) is None
    np.testing.assert_array_equal(cache.get((4,)), vectors[(4,)])


def test_long_sequences_are_not_kept_and_ids_are_not_mixed_up() -> None:
    cache = VectorCache()
    cache.put(tuple(range(LONGEST + 1)), np.ones(4, dtype=np.float32))
    assert cache.get(tuple(range(LONGEST + 1))) is None
    cache.put((1, 2), np.ones(4, dtype=np.float32))
    assert cache.get((1,)) is None and cache.get((2, 1)) is None and cache.get((1, 2, 0)) is None


def test_repeats_are_embedded_once_across_checkpoints(lake: str, tmp_path: Path) -> None:
    texts: list[str] = [f"ok {i % 3}" if i % 2 else f"text {i}" for i in range(40)]
    job = make_job(lake, texts, checkpoint_rows=4)
    engine = CountingEngine(job.spec)
    run(job, engine)
    prove(job, texts, tmp_path)
    manifest = manifest_of(job)
    distinct = len(set(texts))
    assert len(engine.seen) == distinct == len(set(engine.seen))
    assert manifest.duplicate_windows == len(texts) - distinct
