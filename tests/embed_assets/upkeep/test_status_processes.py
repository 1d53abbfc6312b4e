"""`status` beside real workers: whatever ends them, nothing runs where nobody works."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from embed_assets.monitor.states import State
from embed_assets.upkeep.status import pipeline_status
from embed_worker.exits import ExitCode
from tests.kits import ROOT
from tests.kits.lake.progress import grow_old
from tests.kits.pipelines import Prepared
from tests.kits.processes import wait_until

pytestmark = pytest.mark.slow

WORKER = """
import sys, time
import embed_worker.__main__ as worker
from embed_worker.engine.hash import HashEngine

quick = HashEngine.embed
def slow(self, source):
    for result in quick(self, source):
        yield result
        time.sleep(0.2)
HashEngine.embed = slow
sys.argv = ["embed_worker", "--serve"]
code = worker.main()
sys.stderr.flush()
import os
os._exit(code)
"""


@contextmanager
def worker(made: Prepared, stride: int) -> Iterator["subprocess.Popen[bytes]"]:
    """The real worker with a job in hand, as a run on this machine starts it: its stdin is the run's."""
    url = made.resource.write_job(made.job(stride, heartbeat_seconds=0.2, checkpoint_rows=2))
    process = subprocess.Popen(
        [sys.executable, "-c", WORKER], cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT / "sky")},
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        assert process.stdin is not None
        process.stdin.write(json.dumps({"job": url}).encode() + b"\n")
        process.stdin.flush()
        yield process
    finally:
        process.kill()
        process.wait()


def state(made: Prepared, stride: int) -> State:
    [found] = pipeline_status(made.store, made.pipeline)
    return found.partitions[made.job(stride).shard.key]


@pytest.mark.parametrize("end", ["run terminated", "run killed"])
def test_a_run_that_is_over_leaves_nothing_running(lake: Path, source: Path, end: str) -> None:
    made = Prepared(lake, str(source))
    with worker(made, 0) as process:
        wait_until(lambda: state(made, 0) is State.RUNNING, "running")
        wait_until(lambda: pipeline_status(made.store, made.pipeline)[0].rows_in_hand, "a checkpoint")
        if end == "run terminated":
            process.send_signal(signal.SIGTERM)
        else:
            assert process.stdin is not None
            process.stdin.close()  # as the kernel does for a run that is no more
        process.wait(60)
    assert state(made, 0) is State.RECOVERING


def test_a_job_that_cannot_succeed_has_failed(lake: Path, source: Path) -> None:
    made = Prepared(lake, str(source))
    job = made.job(0)
    made.store.delete(job.spans[0].path)
    with worker(made, 0) as process:
        wait_until(lambda: state(made, 0) is State.FAILED, "failed")
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(60) == ExitCode.DONE
    [found] = pipeline_status(made.store, made.pipeline)
    assert "Re-materialize stride_partitions" in found.reasons["d-00000"]


def test_a_worker_that_is_killed_is_stale_once_it_is_silent(lake: Path, source: Path) -> None:
    made = Prepared(lake, str(source))
    with worker(made, 0) as process:
        wait_until(lambda: state(made, 0) is State.RUNNING, "running")
        process.kill()
        process.wait()
    for path, _ in made.store.walk("progress"):
        grow_old(made.store, path, 61)
    assert state(made, 0) is State.STALE
