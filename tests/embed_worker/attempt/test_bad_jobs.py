"""Jobs that no attempt can do are refused; a job file is what it is named."""

import threading
from pathlib import Path

import orjson
import pytest

from embed_worker.attempt.runner import run_job
from embed_worker.errors import BadJob, Preempted, exit_code_of
from embed_worker.exits import ExitCode
from embed_worker.lake.errors import BadJobFile
from embed_worker.lake.job import EmbedJob, load_job
from embed_worker.lake.store import Store
from tests.kits.attempt.jobs import input_table, make_job, make_spec, no_model, run, write_job
from tests.kits.attempt.stopped import TEXTS, StopAfter


def refused(job: EmbedJob) -> str:
    with pytest.raises(BadJob) as caught:
        run_job(job, no_model, threading.Event())
    assert exit_code_of(caught.value) == ExitCode.BAD_JOB
    return str(caught.value)


def test_a_shard_of_another_input_is_a_bad_job(lake: str) -> None:
    job = make_job(lake, TEXTS)
    run(job)
    other = job.model_copy(update={"input": job.input.model_copy(update={"digest": "another"})})
    message = refused(other)
    assert job.input.digest in message and "another" in message and "_manifest.json" in message


def test_checkpoints_of_another_input_are_a_bad_job(lake: str) -> None:
    job = make_job(lake, TEXTS)
    stop = threading.Event()
    with pytest.raises(Preempted):
        run(job, StopAfter(job, stop, 12), stop)
    other = job.model_copy(update={"input": job.input.model_copy(update={"digest": "another"})})
    assert "remove the folder" in refused(other)


@pytest.mark.parametrize("damage", ["missing", "truncated", "swapped"])
def test_an_input_file_that_is_not_the_one_named(any_lake: str, damage: str) -> None:
    job = make_job(any_lake, TEXTS, input_files=2)
    store = Store(any_lake)
    paths = [f"{job.input.path}/{f.path}" for f in job.input.files]
    before = store.read(paths[1])
    store.delete(paths[1])
    if damage == "truncated":
        store.create(paths[1], before[:-10])
    elif damage == "swapped":
        store.create(paths[1], store.read(paths[0]))
    message = refused(job)
    assert store.url(paths[1]) in message and "Re-materialize stride_partitions" in message


def test_an_input_of_another_length_or_without_a_column(lake: str) -> None:
    assert "has 22 rows, the job says 23" in refused(make_job(lake, TEXTS, rows=23))
    table = input_table(TEXTS).drop_columns(["text"])
    assert "no column text" in refused(make_job(f"{lake}2", TEXTS, table=table))


def test_a_damaged_manifest_is_a_bad_job(lake: str) -> None:
    job = make_job(lake, TEXTS)
    Store(lake).create(job.shard.manifest_path, b'{"format": 1')
    assert "_manifest.json" in refused(job)


def test_job_files(lake: str, tmp_path: Path) -> None:
    job = make_job(lake, TEXTS)
    assert load_job(write_job(job)) == job
    cases = {
        "missing.json": (None, "does not exist"),
        "broken.json": (b"{", "is not JSON"),
        "key.json": (orjson.dumps({**job.model_dump(mode="json"), "datset": "x"}), "datset"),
        "value.json": (orjson.dumps({**job.model_dump(mode="json"), "shard": {"method": "mod"}}), "shard"),
        "deep.json": (orjson.dumps({**job.model_dump(mode="json"), "spec": {"model": "x"}}), "spec.pooling"),
        "future.json": (orjson.dumps({**job.model_dump(mode="json"), "format": 2}), "format"),
    }
    for name, (text, complaint) in cases.items():
        path = tmp_path / name
        if text is not None:
            path.write_bytes(text)
        with pytest.raises(BadJobFile, match=complaint) as caught:
            load_job(str(path))
        assert str(path) in str(caught.value)
    with pytest.raises(BadJobFile, match="nonsense"):
        load_job("nonsense://x/job.json")


def test_the_job_file_is_named_by_all_that_is_in_it(lake: str) -> None:
    job = make_job(lake, TEXTS)
    assert EmbedJob.model_validate_json(job.model_dump_json()).fingerprint == job.fingerprint
    assert job.model_copy(update={"spec": make_spec(pooling="cls")}).fingerprint != job.fingerprint
    assert job.path == f"jobs/books-00003/{job.fingerprint}.json"
