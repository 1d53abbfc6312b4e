"""Workers that hang before they are of use, and processes that a worker leaves behind: real processes."""

import os
import signal
import sys
from pathlib import Path

import pytest

from embed_assets.drive.events import Committed, Failed
from resources.local.process import LIMITS, Limits, WorkerProcess
from resources.local.resource import LocalComputeResource
from tests.kits import pipelines as kit
from tests.kits.compute.machine import Machine
from tests.kits.compute.worker_python import shell_python, worker_python
from tests.kits.processes import alive, wait_until

pytestmark = pytest.mark.slow

SHORT = Limits(start=8.0, load=8.0)
"""Long enough for a worker's imports on a busy machine."""


def hangs_in_an_import(folder: Path, times: int) -> str:
    """The first processes hang while they import; the real worker comes after them."""
    path, count = folder / "python", folder / "count"
    count.write_text("")
    path.write_text(
        f"#!{sys.executable}\nimport time\n"
        f"def stuck_in_an_import():\n    time.sleep(600)\n"
        f"with open({str(count)!r}, 'a') as file: file.write('x')\n"
        f"if len(open({str(count)!r}).read()) <= {times}: stuck_in_an_import()\n"
        "import os, sys\nimport embed_worker.__main__ as worker\n"
        "sys.argv = ['embed_worker', '--serve']\ncode = worker.main()\nos._exit(code)\n"
    )
    path.chmod(0o755)
    return str(path)


def test_a_worker_that_hangs_in_an_import_is_killed_and_another_makes_the_partition(tmp_path: Path) -> None:
    machine = Machine(tmp_path, hangs_in_an_import(tmp_path, times=1), limits=SHORT)
    (done,) = machine.drive(machine.ready.job(0))
    assert isinstance(done, Committed) and done.attempts == 2
    (told,) = machine.warnings
    assert "did not begin to work within 8 s" in told and "EMBED_LOCAL_START_SECONDS" in told
    machine.compute.close()


def test_its_log_says_where_it_hung(tmp_path: Path) -> None:
    machine = Machine(tmp_path, hangs_in_an_import(tmp_path, times=9), limits=Limits(start=1.0))
    (failed,) = machine.drive(machine.ready.job(0), max_attempts=1)
    assert isinstance(failed, Failed)
    assert "stuck_in_an_import" in failed.log and "Fatal Python error: Aborted" in failed.log
    assert len((tmp_path / "count").read_text()) == 1
    machine.compute.close()


def test_a_model_that_does_not_come_is_noticed_and_a_long_job_is_not(tmp_path: Path) -> None:
    body = (
        "if job.shard.stride == 0: worker.load_model = lambda spec: time.sleep(600)\n"
        "    else: time.sleep(3)  # longer than both limits, and at work"
    )
    python = worker_python(tmp_path / "python", body)
    machine = Machine(tmp_path, python, limits=Limits(start=8.0, load=1.0))
    found = {type(outcome): outcome for outcome in machine.drive(*map(machine.ready.job, (0, 1)), max_attempts=1)}
    failed, committed = found[Failed], found[Committed]
    assert isinstance(failed, Failed) and isinstance(committed, Committed)
    assert "loaded no model within 1 s" in failed.error and "EMBED_LOCAL_LOAD_SECONDS" in failed.error
    assert committed.job.shard.key == "d-00001"
    machine.compute.close()


def test_a_worker_that_waits_for_its_next_job_does_not_hang(tmp_path: Path) -> None:
    process = WorkerProcess(sys.executable, tmp_path / "log", Limits(start=8.0, load=8.0))
    process.send({"job": str(tmp_path / "none.json")})
    assert wait_until(process.answer, "the answer")["code"] == 65
    process._since -= 1000
    assert process.death() is None
    process.stop()


def test_a_query_to_a_worker_that_hangs_says_so(tmp_path: Path) -> None:
    resource = LocalComputeResource(worker_python=hangs_in_an_import(tmp_path, times=9), start_seconds=1.0)
    with pytest.raises(RuntimeError, match=r"did not begin to work within 1 s[\s\S]*stuck_in_an_import"):
        resource.embed_queries(kit.spec(), ["x"])


CHILD = "(trap '' TERM; while :; do sleep 1; done) & echo $! >&2; "


@pytest.mark.parametrize("leader", ["wait", "trap '' TERM; while :; do sleep 1; done"])
def test_what_a_worker_started_ends_with_it_though_it_ignores_sigterm(
    tmp_path: Path, leader: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resources.local.process.STOP_SECONDS", 0.2)
    process = WorkerProcess(shell_python(tmp_path / "python", CHILD + leader), tmp_path / "log")
    child = int(wait_until(lambda: process.tail(5).strip(), "the child's id"))
    assert alive(child)
    process.stop()
    assert not alive(process.pid)
    wait_until(lambda: not alive(child), "the child's end")


def test_what_a_dead_worker_started_ends_when_its_death_is_noticed(tmp_path: Path) -> None:
    process = WorkerProcess(shell_python(tmp_path / "python", CHILD + "wait"), tmp_path / "log")
    child = int(wait_until(lambda: process.tail(5).strip(), "the child's id"))
    os.kill(process.pid, signal.SIGKILL)
    assert wait_until(process.death, "its death") == "the worker process was killed by SIGKILL (out of memory?)"
    wait_until(lambda: not alive(child), "the child's end")
    process.stop()


def test_an_abort_for_want_of_memory_is_told_as_that(tmp_path: Path) -> None:
    body = "echo 'memory allocation of 16 bytes failed' >&2; kill -ABRT $$"
    process = WorkerProcess(shell_python(tmp_path / "python", body), tmp_path / "log")
    assert wait_until(process.death, "its death") == "the worker process was killed by SIGABRT (out of memory)"
    other = WorkerProcess(shell_python(tmp_path / "other", "kill -ABRT $$"), tmp_path / "log2")
    assert wait_until(other.death, "its death") == "the worker process was killed by SIGABRT"
    assert LIMITS.start < LIMITS.load
