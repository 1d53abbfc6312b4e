"""Repairs and damaged leftovers: what an attempt of before must not do to the partition's next shard."""

import threading
from pathlib import Path

import pytest

from embed_worker.attempt.checkpoints import Checkpoints
from embed_worker.lake import failpoints
from embed_worker.lake.attempts import Attempt
from embed_worker.lake.errors import DamagedData
from embed_worker.lake.job import EmbedJob
from embed_worker.lake.store import Store
from resources.lake import Lake
from tests.kits.attempt.jobs import leftovers, make_job, make_texts, manifest_of, prove, run

TEXTS = make_texts(9)


def retire(job: EmbedJob) -> None:
    lake = Lake(root=job.lake)
    assert lake.retire(job.shard, lake.shard(job.shard))


def test_a_damaged_note_of_an_attempt_holds_up_no_commit(lake: str, tmp_path: Path) -> None:
    job = make_job(lake, TEXTS)
    store, notes = Store(lake), f"{job.shard.folder}/checkpoints/attempts"
    odd = b'{"attempt": "../odd"}'
    for name, data in [("cut", b'{"attempt": "c'), ("list", b"[]"), ("empty", b"{}"), ("odd", odd)]:
        store.create(f"{notes}/{name}.json", data)
    assert run(job) is True
    prove(job, TEXTS, tmp_path)
    assert len(manifest_of(job).attempts) == 1


def test_a_repair_leaves_the_files_to_those_who_may_commit_them(lake: str, tmp_path: Path) -> None:
    job = make_job(lake, TEXTS)
    run(job)
    files = {file.path for file in manifest_of(job).listed}
    retire(job)
    assert files <= set(Store(lake).list(job.shard.folder))
    assert run(job) is True
    assert {file.path for file in manifest_of(job).listed} == files, "whole ones are adopted"
    prove(job, TEXTS, tmp_path)


def test_a_sweep_removes_nothing_once_its_manifest_is_retired(lake: str, monkeypatch: pytest.MonkeyPatch) -> None:
    job = make_job(lake, TEXTS)
    run(job)
    store = Store(lake)
    checkpoints, part = Checkpoints(store, job), f"{job.shard.folder}/part-00007.parquet"

    def meanwhile(place: str) -> None:
        if place == "sweep.begun":
            retire(job)
            checkpoints.register(Attempt(attempt="next"))
            store.create(part, b"of the next attempt")

    monkeypatch.setattr(failpoints, "reach", meanwhile)
    checkpoints.sweep()
    assert store.exists(part) and checkpoints.attempts()


def test_an_attempt_of_before_a_repair_commits_nothing(
    lake: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its parts may have been swept as another's orphans."""
    job = make_job(lake, TEXTS)
    zombie = threading.current_thread()

    def meanwhile(place: str) -> None:
        if place == "manifest.ready" and threading.current_thread() is zombie:
            monkeypatch.setattr(failpoints, "reach", lambda place: None)
            assert run(job) is True
            retire(job)

    monkeypatch.setattr(failpoints, "reach", meanwhile)
    with pytest.raises(DamagedData, match="repaired meanwhile"):
        run(job)
    assert not Store(lake).exists(job.shard.manifest_path)
    assert run(job) is True
    prove(job, TEXTS, tmp_path)
    assert [name for name in leftovers(job) if not name.startswith("_retired-")] == []
