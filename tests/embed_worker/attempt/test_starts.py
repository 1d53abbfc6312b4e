"""A managed job that starts again and again and commits nothing comes to an end."""

from datetime import UTC, datetime

import pytest

from embed_worker.attempt.checkpoints import Checkpoints
from embed_worker.attempt.starts import LIMIT, check_starts
from embed_worker.errors import BadJob, exit_code_of
from embed_worker.exits import ExitCode
from embed_worker.lake.attempts import Attempt
from embed_worker.lake.heartbeats import Heartbeat
from embed_worker.lake.store import Store, to_json
from tests.kits.attempt.jobs import make_job, make_texts


@pytest.fixture
def checkpoints(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> Checkpoints:
    monkeypatch.setenv(LIMIT, "3")
    return Checkpoints(Store(str(tmp_path)), make_job(str(tmp_path), make_texts(8)))


def start(checkpoints: Checkpoints, number: int, job: str | None = "7", ending: str | None = "failed") -> None:
    """Begins, and ends so; None: the machine is gone without a word."""
    attempt = Attempt(
        attempt=f"a{number}", started_at=datetime(2026, 1, 1, 0, 0, number, tzinfo=UTC), skypilot_job_id=job
    )
    checkpoints.register(attempt)
    store = checkpoints._store
    check_starts(store, checkpoints, job)
    phase, error = ("embedding", None) if ending is None else ("stopped", "OSError")
    beat = Heartbeat(shard=checkpoints.shard, **attempt.model_dump(), phase=phase, ending=ending, error=error)
    store.replace(beat.path, to_json(beat.model_dump(mode="json", exclude_none=True)))


def test_the_start_after_the_last_allowed_one_is_refused(checkpoints: Checkpoints) -> None:
    for number in range(3):
        start(checkpoints, number)
    with pytest.raises(BadJob, match=r"managed job 7 failed 3 times in a row and committed nothing.*OSError") as error:
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


@pytest.mark.parametrize("ending", [None, "preempted"])
def test_a_machine_that_was_taken_says_nothing_against_the_job(checkpoints: Checkpoints, ending: str | None) -> None:
    for number in range(20):
        start(checkpoints, number, ending=ending)
    for number in range(20, 23):
        start(checkpoints, number)
    with pytest.raises(BadJob):
        start(checkpoints, 23)


@pytest.mark.parametrize("limit", ["", "0", "many"])
def test_without_a_limit_there_is_none(checkpoints: Checkpoints, monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    monkeypatch.setenv(LIMIT, limit)
    for number in range(20):
        start(checkpoints, number)
