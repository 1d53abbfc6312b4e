"""Jobs that no attempt can do are refused; a job file is what it is named."""

import threading
from pathlib import Path

import orjson
import pytest

from embed_worker.attempt.runner import run_job
from embed_worker.errors import BadJob, exit_code_of
from embed_worker.exits import ExitCode
from embed_worker.lake.errors import BadJobFile
from embed_worker.lake.job import EmbedJob, load_job
from embed_worker.lake.store import Store
from tests.kits.attempt.jobs import make_job, make_spec, no_model, write_job
from tests.kits.attempt.stopped import TEXTS


def refused(job: EmbedJob) -> str:
    with pytest.raises(BadJob) as caught:
        run_job(job, no_model, threading.Event())
    assert exit_code_of(caught.value) == ExitCode.BAD_JOB
    return str(caught.value)


@pytest.mark.parametrize("damage", ["missing", "truncated", "swapped"])
def test_an_input_that_is_not_the_one_named(any_lake: str, damage: str) -> None:
    job = make_job(any_lake, TEXTS, slices=2)
    store, path = Store(any_lake), job.spans[1].path
    before = store.read(path)
    store.delete(path)
    if damage == "truncated":
        store.create(path, before[: job.spans[1].offset + 100])
    elif damage == "swapped":
        store.create(path, store.read(job.spans[0].path))
    message = refused(job)
    assert (path in message or "the stride has" in message) and "Re-materialize stride_partitions" in message


def test_an_input_of_another_length(lake: str) -> None:
    assert "hold 22 rows" in refused(make_job(lake, TEXTS, rows=23))


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
        "input.json": (
            orjson.dumps({**job.model_dump(mode="json"), "input": {**job.input.model_dump(), "digest": "0f"}}),
            "the input is 0f",
        ),
        "future.json": (orjson.dumps({**job.model_dump(mode="json"), "format": 3}), "format"),
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
