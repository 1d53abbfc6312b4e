"""A lake that refuses the worker, or is not there when it begins: an end that SkyPilot does not recover."""

import os
import subprocess
import sys

import pytest

from embed_worker.__main__ import Worker
from embed_worker.attempt.checkpoints import Checkpoints
from embed_worker.errors import NotBegun
from embed_worker.exits import ExitCode
from embed_worker.lake.errors import NoPermission, StoreAway, StoreUnavailable
from embed_worker.lake.job import load_job
from embed_worker.lake.store import Store
from tests.kits.attempt.jobs import make_job, make_texts, run, write_job
from tests.kits.lake.fault_proxy import FaultProxy

pytestmark = pytest.mark.slow

TEXTS = make_texts(22)


class RefusingProxy(FaultProxy):
    """Answers 403 to each request whose method and path have all of these words."""

    def __init__(self, upstream: str, words: str) -> None:
        super().__init__(upstream)
        self.words = words.split()

    def draw(self, request: str) -> str:
        return "error AccessDenied" if all(word in request for word in self.words) else ""


def worker(url: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_") or "DISABLED" in name}
    command = [sys.executable, "-m", "embed_worker", url]
    return subprocess.run(
        command, env={**kept, **environment}, capture_output=True, text=True, timeout=200, check=False
    )


KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}


@pytest.mark.parametrize(
    ("words", "begins"), [("/jobs/", False), ("PUT", False), ("GET list-type attempts", False), ("PUT /000002.", True)]
)
def test_a_lake_that_refuses_the_worker_is_no_try_again(s3_server: str, s3_root: str, words: str, begins: bool) -> None:
    """EMBED_MAX_STARTS counts notes in the lake, so it would not end a job whose note is refused."""
    job = make_job(s3_root, TEXTS)
    url = write_job(job)
    with RefusingProxy(s3_server, words).running() as proxy:
        ended = worker(url, AWS_ENDPOINT_URL=proxy.url, EMBED_MAX_STARTS="2", SKYPILOT_MANAGED_JOB_ID="7", **KEYS)
    assert ended.returncode == 69, ended.stderr
    assert "no permission" in ended.stderr and "Traceback" not in ended.stderr
    committed = Checkpoints(Store(s3_root), job).committed()
    assert ({0, 1} <= committed and 2 not in committed) if begins else not committed


def test_a_worker_without_credentials(s3_server: str, s3_root: str) -> None:
    ended = worker(write_job(make_job(s3_root, TEXTS)), AWS_ENDPOINT_URL=s3_server)
    assert ended.returncode == 69, ended.stderr
    assert "has no credentials for it" in ended.stderr and "Traceback" not in ended.stderr


def test_no_permission_on_a_folder(lake: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    url = write_job(make_job(lake, TEXTS))
    with monkeypatch.context() as patch:  # tests run as root, whom no mode bit stops
        patch.setattr("embed_worker.lake.store.os.link", refuse)
        code, error = Worker().run(url)
    assert code == ExitCode.UNAVAILABLE and error is not None and "no permission" in error
    monkeypatch.setattr("fsspec.implementations.local.LocalFileSystem.cat_file", refuse)
    with pytest.raises(NoPermission, match="no permission"):
        load_job(url)


@pytest.mark.parametrize("fault", [StoreAway("away"), StoreUnavailable("full"), OSError(116, "Stale file handle")])
@pytest.mark.parametrize("step", ["register", "attempts"])
def test_a_start_that_is_not_counted_is_not_recovered(
    lake: str, monkeypatch: pytest.MonkeyPatch, fault: Exception, step: str
) -> None:
    def fail(*_: object) -> None:
        raise fault

    monkeypatch.setenv("EMBED_MAX_STARTS", "2")
    monkeypatch.setenv("SKYPILOT_MANAGED_JOB_ID", "7")
    monkeypatch.setattr(Checkpoints, step, fail)
    code, error = Worker().run(write_job(make_job(lake, TEXTS)))
    assert code == ExitCode.UNAVAILABLE and error is not None and str(fault) in error


def test_a_lake_that_goes_away_after_the_start_is_no_fault_of_the_machine(
    lake: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise StoreAway("away")

    monkeypatch.setattr(Checkpoints, "commit", fail)
    code, error = Worker().run(write_job(make_job(lake, TEXTS)))
    assert (code, error) == (ExitCode.UNAVAILABLE, "away")


def test_the_first_fault_decides_the_exit_code(lake: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The question whether a twin has committed meanwhile meets the same lake."""
    job = make_job(lake, TEXTS)
    looks = []

    def away(*_: object) -> None:
        looks.append(1)
        if len(looks) > 1:
            raise StoreAway("away")

    monkeypatch.setattr("embed_worker.attempt.runner._committed", away)
    monkeypatch.setattr(Checkpoints, "register", away)
    with pytest.raises(NotBegun):
        run(job)
    assert len(looks) == 3
