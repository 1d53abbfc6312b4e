"""What an earlier attempt left damaged is made anew."""

from pathlib import Path

import pytest

from embed_worker.errors import exit_code_of
from embed_worker.exits import ExitCode
from embed_worker.lake.store import Store
from tests.kits.attempt.jobs import leftovers, make_job, prove, run
from tests.kits.attempt.stopped import TEXTS, preempted


@pytest.mark.parametrize("damage", ["cut", "missing", "other bytes"])
def test_damaged_checkpoint_data_is_made_anew_by_the_retry(lake: str, tmp_path: Path, damage: str) -> None:
    job = preempted(lake)
    store = Store(lake)
    path = next(p for p, _ in store.walk(f"{job.shard.folder}/checkpoints") if p.endswith(".parquet"))
    before = store.read(path)
    store.delete(path)
    if damage == "cut":
        store.create(path, before[:-1])
    elif damage == "other bytes":
        store.create(path, bytes([before[0] ^ 1]) + before[1:])
    with pytest.raises(Exception, match=r"missing|bytes|sha256") as caught:
        run(job)
    assert exit_code_of(caught.value) == ExitCode.AGAIN
    assert not store.exists(job.shard.manifest_path)
    assert run(job)
    prove(job, TEXTS, tmp_path)
    assert leftovers(job) == []


@pytest.mark.parametrize("text", [b"", b'{"index": 0}', b'{"from": "a later version"}'])
def test_an_unreadable_checkpoint_record_is_made_anew(lake: str, tmp_path: Path, text: bytes) -> None:
    job = preempted(lake)
    store = Store(lake)
    path = next(p for p, _ in store.walk(f"{job.shard.folder}/checkpoints/rows-0000004") if p.endswith(".json"))
    store.delete(path)
    store.create(path, text)
    assert run(job)
    prove(job, TEXTS, tmp_path)


def test_damaged_parts_of_a_dead_attempt_are_replaced(lake: str, tmp_path: Path) -> None:
    job = make_job(lake, TEXTS)
    store = Store(lake)
    store.create(f"{job.shard.folder}/part-00000.parquet", b"half a part")
    store.create(f"{job.shard.folder}/rejects.parquet", b"half")
    assert run(job)
    prove(job, TEXTS, tmp_path)
    assert leftovers(job) == []


def test_a_retired_manifest_has_the_work_done_anew(lake: str, tmp_path: Path) -> None:
    """How a damaged partition is repaired: its manifest goes first."""
    job = make_job(lake, TEXTS)
    run(job)
    store = Store(lake)
    part = f"{job.shard.folder}/part-00000.parquet"
    store.delete(part)
    store.create(part, b"damaged")
    store.delete(job.shard.manifest_path)
    assert run(job)
    prove(job, TEXTS, tmp_path)
