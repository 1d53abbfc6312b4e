"""Cancelling a run."""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import dagster as dg
import pytest

from embed_worker.lake.job import EmbedJob
from resources.compute import JobHandle, JobState, JobStatus
from tests.kits.compute.in_process import InProcess, InProcessCompute
from tests.kits.compute.worker_python import HANG, worker_python
from tests.kits.graph_bench import GraphBench
from tests.kits.processes import alive, wait_until

pytestmark = pytest.mark.slow


def hanging(bench: GraphBench) -> Path:
    """The first job of the worker never ends."""
    pids = bench.folder / "pids"
    body = f"open({str(pids)!r}, 'a').write(str(os.getpid()) + chr(10)); {HANG}"
    bench.python = worker_python(bench.folder / "python", body)
    return pids


@pytest.mark.parametrize("how", ["status", "interrupt"])
def test_cancelling_a_run_stops_its_workers(lasting: GraphBench, how: str) -> None:
    bench = lasting
    bench.prepare()
    pids = hanging(bench)

    def cancel() -> None:
        wait_until(lambda: pids.exists() and pids.read_text().strip(), "the worker's start")
        (run,) = bench.instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED]))
        bench.instance.report_run_canceling(run)
        if how == "interrupt":
            os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=cancel)
    thread.start()
    with contextlib.suppress(BaseException):
        bench.embed()
    thread.join()
    worker = int(pids.read_text().split()[0])
    assert not alive(worker)
    (run,) = bench.instance.get_runs(limit=1)
    assert run.status in (dg.DagsterRunStatus.CANCELED, dg.DagsterRunStatus.CANCELING)
    assert "cancelled" in "\n".join(entry.user_message for entry in bench.instance.all_logs(run.run_id))
    bench.python = None
    assert bench.embed().success


class _Cloud(InProcess):
    """Jobs that go on without us and never end; something happens at the third poll."""

    outlives_driver = True

    def __init__(self, happens: Callable[[], None]) -> None:
        super().__init__()
        self.happens, self.polls = happens, 0
        self.cancelled: list[str] = []

    def submit(self, name: str, job: EmbedJob, url: str) -> JobHandle:
        return JobHandle(name, job.shard.key)

    def poll(self, handles: Sequence[JobHandle]) -> dict[JobHandle, JobStatus]:
        self.polls += 1
        if self.polls == 3:
            self.happens()
        return {handle: JobStatus(JobState.RUNNING) for handle in handles}

    def cancel(self, handles: Sequence[JobHandle]) -> None:
        self.cancelled += [handle.id for handle in handles]


@pytest.mark.parametrize("ends", ["cancelled", "interrupted", "code server gone"])
def test_only_cancelling_a_run_cancels_jobs_that_outlive_it(
    bench: GraphBench, monkeypatch: pytest.MonkeyPatch, ends: str
) -> None:
    bench.prepare()

    def happens() -> None:
        (run,) = bench.instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED]))
        if ends == "cancelled":
            bench.instance.report_run_canceling(run)
        elif ends == "interrupted":
            raise KeyboardInterrupt
        else:
            monkeypatch.setattr(os, "getppid", lambda: 1)

    cloud = _Cloud(happens)
    monkeypatch.setattr(InProcessCompute, "backend", lambda: cloud)
    with contextlib.suppress(BaseException):
        bench.embed()
    assert cloud.polls == 3, "the run went on"
    assert cloud.cancelled == (bench.strides_of() if ends == "cancelled" else [])
    (run,) = bench.instance.get_runs(limit=1)
    log = "\n".join(entry.user_message for entry in bench.instance.all_logs(run.run_id))
    assert ("this run was cancelled: 5 jobs are stopped" if ends == "cancelled" else "5 jobs go on") in log
