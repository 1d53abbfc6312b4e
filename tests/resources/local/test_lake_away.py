"""A lake that a local worker alone cannot read or write costs no attempt; jobs go on when it is back."""

import time
from pathlib import Path

import pytest

from embed_assets.drive.events import Committed, Failed
from resources.compute import JobState
from resources.local.compute import LAKE_PATIENCE, MAX_PAUSE
from tests.kits.clock import Clock
from tests.kits.compute.machine import Machine
from tests.kits.compute.worker_python import worker_python

pytestmark = pytest.mark.slow

REFUSED = """from embed_worker.lake.errors import NoPermission
    if os.path.exists({away!r}): raise NoPermission("s3://lake: no permission (Forbidden)")"""


class Away:
    """A machine whose worker the lake refuses as long as a file is there."""

    def __init__(self, folder: Path) -> None:
        self.file, self.clock = folder / "away", Clock()
        self.file.write_text("")
        python = worker_python(folder / "python", REFUSED.format(away=str(self.file)))
        self.machine = Machine(folder, python, clock=self.clock)


def test_a_refusal_of_minutes_costs_no_attempt_and_is_told_once(tmp_path: Path) -> None:
    away = Away(tmp_path)

    def sleep(seconds: float) -> None:
        time.sleep(seconds)
        away.clock.now += 5.0 * bool(away.machine.warnings)  # the minutes begin with the first refusal
        if away.clock.now > 300:
            away.file.unlink(missing_ok=True)

    (done,) = away.machine.drive(away.machine.ready.job(0), sleep=sleep)
    assert isinstance(done, Committed) and done.attempts == 1
    (told,) = away.machine.warnings
    assert "cannot read or write the lake (s3://lake: no permission (Forbidden))" in told
    away.machine.compute.close()


def test_the_pauses_grow_to_a_minute_and_end_with_the_patience(tmp_path: Path) -> None:
    away = Away(tmp_path)
    handle = away.machine.submit(0)
    pauses: list[float] = []
    while True:
        (status,) = away.machine.until(JobState.RECOVERING, JobState.FAILED, handles=[handle])
        if status.state is JobState.FAILED:
            break
        before = away.clock.now
        while away.machine.compute.poll([handle])[handle].state is JobState.RECOVERING:
            away.clock.now += 0.5
        pauses.append(away.clock.now - before)
    assert pauses[:6] == [1, 1, 2, 4, 8, 16] and set(pauses[8:]) == {MAX_PAUSE}
    assert LAKE_PATIENCE <= sum(pauses) < LAKE_PATIENCE + MAX_PAUSE
    again = away.machine.submit(0)
    (status,) = away.machine.final(again)
    assert status.state is JobState.FAILED, "the patience is one for all attempts of a job"
    away.machine.compute.close()


def test_another_job_does_not_wait_behind_one_that_pauses(tmp_path: Path) -> None:
    away = Away(tmp_path)
    first = away.machine.submit(0)
    away.machine.until(JobState.RECOVERING, handles=[first])
    away.file.unlink()
    second = away.machine.submit(1)
    (status,) = away.machine.final(second)
    assert status.state is JobState.SUCCEEDED
    away.machine.compute.cancel([first])
    (status,) = away.machine.final(first)
    assert status.state is JobState.CANCELLED
    away.machine.compute.close()


def test_a_fault_of_the_job_itself_is_not_waited_for(tmp_path: Path) -> None:
    machine = Machine(tmp_path, worker_python(tmp_path / "python", 'raise BadJob("not the pinned weights")'))
    (failed,) = machine.drive(machine.ready.job(0))
    assert isinstance(failed, Failed) and failed.attempts == 1
    machine.compute.close()
