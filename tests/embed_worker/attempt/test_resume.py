"""A job that was stopped goes on where it was; one that is committed is adopted."""

import threading
from pathlib import Path

import pytest

from embed_worker.attempt.runner import run_job
from embed_worker.errors import Preempted
from embed_worker.exits import ExitCode
from embed_worker.lake.store import Store
from tests.kits.attempt.jobs import (
    CountingEngine,
    leftovers,
    make_job,
    make_texts,
    manifest_of,
    no_model,
    prove,
    run,
    text_of,
    write_job,
)
from tests.kits.attempt.stopped import TEXTS, StopAfter, committed_rows, preempted


@pytest.mark.parametrize("after", [1, 5, 12, 19])
def test_a_stopped_run_is_resumed_where_it_was(lake: str, tmp_path: Path, after: int) -> None:
    job = make_job(lake, TEXTS)
    stop = threading.Event()
    first = StopAfter(job, stop, after)
    with pytest.raises(Preempted):
        run(job, first, stop)
    store = Store(lake)
    assert not store.exists(job.shard.manifest_path)
    committed = committed_rows(store, job)
    second = CountingEngine(job.spec)
    assert run(job, second) is True
    prove(job, TEXTS, tmp_path)
    done = {TEXTS[i] for i in committed}
    assert not done & {text_of(ids) for ids in second.seen}, "nothing that was committed is embedded again"
    assert len(manifest_of(job).attempts) == 2
    assert leftovers(job) == []


def test_a_stopped_run_is_resumed_on_s3(s3_root: str, tmp_path: Path) -> None:
    job = preempted(s3_root)
    engine = CountingEngine(job.spec)
    committed = committed_rows(Store(s3_root), job)
    assert committed and run(job, engine)
    prove(job, TEXTS, tmp_path)
    assert not {TEXTS[i] for i in committed} & {text_of(ids) for ids in engine.seen}
    assert leftovers(job) == []


def test_stopped_before_it_began(lake: str) -> None:
    job = make_job(lake, TEXTS)
    stop = threading.Event()
    stop.set()
    with pytest.raises(Preempted):
        run(job, stop=stop)
    assert not Store(lake).exists(job.shard.manifest_path)


def test_a_committed_partition_is_adopted_without_a_model(any_lake: str, tmp_path: Path) -> None:
    job = make_job(any_lake, TEXTS)
    run(job)
    before = Store(any_lake).read(job.shard.manifest_path)
    assert run_job(job, no_model, threading.Event()) is False
    assert Store(any_lake).read(job.shard.manifest_path) == before
    prove(job, TEXTS, tmp_path)


def test_adoption_sweeps_what_a_killed_winner_left(lake: str, tmp_path: Path) -> None:
    job = make_job(lake, TEXTS)
    run(job)
    store = Store(lake)
    for name in (
        "checkpoints/rows-0000004/000001.dead.parquet",
        "part-00007.parquet",
        "rejects.parquet",
        "._manifest.json.1f.tmp",
        "notes.txt",
    ):
        store.create(f"{job.shard.folder}/{name}", b"left over")
    run_job(job, no_model, threading.Event())
    assert leftovers(job) == ["notes.txt"], "a stray part would be read as one of the shard's"
    prove(job, TEXTS, tmp_path)


def test_another_checkpoint_size_starts_anew_and_is_right(lake: str, tmp_path: Path) -> None:
    job = make_job(lake, TEXTS)
    stop = threading.Event()
    with pytest.raises(Preempted):
        run(job, StopAfter(job, stop, 12), stop)
    other = job.model_copy(update={"checkpoint_rows": 5})
    assert run(other)
    prove(other, TEXTS, tmp_path)
    assert leftovers(other) == []


def test_a_record_whose_put_was_answered_twice_is_still_ours(
    lake: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client sends a put again when the answer got lost; the server then says that the name is taken."""
    create = Store.create

    def create_twice(self: Store, path: str, data: bytes) -> bool:
        create(self, path, data)
        return create(self, path, data)

    job = make_job(lake, TEXTS)
    monkeypatch.setattr(Store, "create", create_twice)
    run(job)
    prove(job, TEXTS, tmp_path)


def test_a_full_disk_is_retryable_and_then_resumed(small_disk: Path, tmp_path: Path) -> None:
    from embed_worker.__main__ import Worker

    texts = make_texts(400)
    job = make_job(str(small_disk / "lake"), texts, checkpoint_rows=20)
    url = write_job(job)
    ballast = small_disk / "ballast"
    with ballast.open("wb", buffering=0) as file, pytest.raises(OSError):
        while True:
            file.write(b"0" * 4096)
    with ballast.open("r+b") as file:
        file.truncate(ballast.stat().st_size - 100_000)
    code, error = Worker().run(url)
    assert code == ExitCode.MACHINE
    assert error is not None and "no space left" in error and "Free some space" in error and "\n" not in error
    store = Store(job.lake)
    assert not store.exists(job.shard.manifest_path)
    assert store.list(".tmp") == []
    committed = committed_rows(store, job)
    assert committed, "the test's disk must hold some checkpoints"
    assert not [p for p, _ in store.walk(job.shard.folder) if p.endswith(".tmp")]
    ballast.unlink()
    engine = CountingEngine(job.spec)
    assert run(job, engine)
    prove(job, texts, tmp_path)
    assert not {texts[i] for i in committed} & {text_of(ids) for ids in engine.seen}
