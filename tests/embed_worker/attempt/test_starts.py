"""A managed job that starts again and again and commits nothing comes to an end."""

from datetime import UTC, datetime

import pytest

from embed_worker.attempt.checkpoints import Checkpoints
from embed_worker.attempt.starts import LIMIT, check_starts
from embed_worker.errors import BadJob, exit_code_of
from embed_worker.exits import ExitCode
from embed_worker.lake.attempts import Attempt
from embed_worker.lake.store import Store
from tests.kits.attempt.jobs import make_job, make_texts


@pytest.fixture
def checkpoints(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> Checkpoints:
    monkeypatch.setenv(LIMIT, "3")
    return Checkpoints(Store(str(tmp_path)), make_job(str(tmp_path), make_texts(8)))


def start(checkpoints: Checkpoints, number: int, job: str | None = "7") -> None:
    began = datetime(2026, 1, 1, 0, 0, number, tzinfo=UTC)
    checkpoints.register(Attempt(attempt=f"a{number}", started_at=began, skypilot_job_id=job))
    check_starts(checkpoints, job)


def test_the_start_after_the_last_allowed_one_is_refused(checkpoints: Checkpoints) -> None:
    for number in range(3):
        start(checkpoints, number)
    with pytest.raises(BadJob, match="managed job 7 started 3 times in a row and committed nothing") as error:
        start(checkpoints, 3)
    assert exit_code_of(error.value) is ExitCode.BAD_JOB
    start(checkpoints, 4, job="8")  # a new job counts from 0
    start(checkpoints, 5, job=None)  # not a managed job: nobody recovers it for ever


def test_a_start_that_left_a_checkpoint_begins_the_count_anew(checkpoints: Checkpoints) -> None:
    for number in range(3):
        start(checkpoints, number)
    checkpoints._store.create(f"{checkpoints.folder}/000000.a2.parquet", b"")
    for number in range(3, 6):
        start(checkpoints, number)
    with pytest.raises(BadJob):
        start(checkpoints, 6)


@pytest.mark.parametrize("limit", ["", "0", "many"])
def test_without_a_limit_there_is_none(checkpoints: Checkpoints, monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    monkeypatch.setenv(LIMIT, limit)
    for number in range(20):
        start(checkpoints, number)
