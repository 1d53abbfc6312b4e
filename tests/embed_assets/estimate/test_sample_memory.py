"""A sample holds what it gives, whatever the number and size of the row groups it is drawn from."""

import tracemalloc
from pathlib import Path

import pytest

from embed_assets.estimate import sample as sampling
from embed_assets.estimate.sample import sample_snapshot
from embed_worker.lake.store import Store
from embed_worker.steps.raw import ingest
from tests.kits import pipelines as kit

SIZE, BYTES, GROUP = 400, 2000, 500


def test_no_more_texts_are_held_than_are_asked_for(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """10 groups of 500 texts each: 400 a group would be 8 MB, the sample is 0.8 MB."""
    monkeypatch.setattr("embed_worker.steps.writers.BATCH_ROWS", GROUP)
    monkeypatch.setattr("embed_worker.steps.fast.block.BLOCK_BYTES", BYTES)  # a row
    records = [{"text": f"{i} ".ljust(BYTES, "x")} for i in range(10 * GROUP)]
    raw = ingest(store, kit.dataset(str(kit.write_jsonl(tmp_path / "big.jsonl", records)))).manifest
    sample_snapshot(store, raw, 1)  # what is loaded once is loaded
    tracemalloc.start()
    try:
        sample = sample_snapshot(store, raw, SIZE)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(sample.texts) == len(set(sample.texts)) == SIZE
    assert peak < 2 * SIZE * BYTES, f"{peak:,} bytes for a sample of {SIZE * BYTES:,}"


def test_a_group_gives_as_many_rows_as_its_share_and_none_twice(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("embed_worker.steps.writers.BATCH_ROWS", 1000)
    monkeypatch.setattr("embed_worker.steps.fast.block.BLOCK_BYTES", 16)  # a row
    monkeypatch.setattr(sampling, "GROUPS", 2)
    path = kit.write_jsonl(tmp_path / "some.jsonl", [{"text": f"text {i}"} for i in range(2500)])
    raw = ingest(store, kit.dataset(str(path))).manifest  # groups of 1000, 1000 and 500
    sample = sample_snapshot(store, raw, 750)
    numbers = [int(text.split()[1]) for text in sample.texts]
    assert len(set(numbers)) == 750 and numbers == sorted(numbers) and len(set(sample.clusters)) == 2
    of_groups = [sum(number // 1000 == group for number in numbers) for group in range(3)]
    sizes = [1000 if group < 2 else 500 for group in range(3) if of_groups[group]]
    for found, size in zip(filter(None, of_groups), sizes, strict=True):
        assert abs(found - 750 * size / sum(sizes)) < 60
