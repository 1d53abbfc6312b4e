"""LocalCompute with real worker processes: one engine for many jobs, deaths noticed, nothing left behind."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from embed_assets.drive.events import Committed, Failed
from resources.compute import JobState
from resources.local.process import WorkerMissing, WorkerProcess
from resources.local.resource import LocalComputeResource
from tests.kits import pipelines as kit
from tests.kits.compute.machine import Machine
from tests.kits.compute.worker_python import HANG, shell_python, worker_python
from tests.kits.processes import alive, wait_until

pytestmark = pytest.mark.slow


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    made = Machine(tmp_path)
    yield made
    made.compute.close()
    assert not [pid for pid in made.seen if alive(pid)], "a worker outlives its backend"


def test_many_jobs_share_one_process_that_loads_its_engine_once(tmp_path: Path, machine: Machine) -> None:
    handles = [machine.submit(stride) for stride in range(4)]
    statuses = machine.final(*handles)
    assert [status.state for status in statuses] == [JobState.SUCCEEDED] * 4
    assert len(machine.seen) == 1
    assert len(list((tmp_path / "logs").iterdir())) == 1
    assert all(machine.ready.resource.shard(machine.ready.job(stride).shard) for stride in range(4))


def test_two_workers_work_side_by_side(tmp_path: Path) -> None:
    machine = Machine(tmp_path, worker_python(tmp_path / "python", "time.sleep(0.2)"), workers=2)
    handles = [machine.submit(stride) for stride in range(4)]
    running = [status for status in machine.compute.poll(handles).values() if status.state is JobState.RUNNING]
    assert len(running) == 2
    machine.final(*handles)
    assert len(machine.seen) == 2
    machine.compute.close()


def test_the_same_name_is_the_same_job(machine: Machine) -> None:
    first, second = machine.submit(0), machine.submit(0)
    assert first == second
    assert machine.compute.find([first.name]) == {first.name: first}
    machine.final(first)
    assert machine.compute.find([first.name]) == {}
    assert machine.submit(0) != first, "one that has ended may be done again"


def test_a_bad_job_is_refused_at_once_with_its_reason_and_the_worker_goes_on(machine: Machine) -> None:
    spec = kit.spec(model="some/model", location="/nowhere")
    bad, good = machine.submit(0, spec=spec), machine.submit(1)
    refused, succeeded = machine.final(bad, good)
    assert refused.state is JobState.REFUSED
    assert "no model at /nowhere" in refused.detail
    assert "no model at /nowhere" in machine.compute.logs(bad)
    assert succeeded.state is JobState.SUCCEEDED


def test_another_spec_gets_a_worker_of_its_own(machine: Machine) -> None:
    handles = [machine.submit(0), machine.submit(1, spec=kit.spec(pooling="cls")), machine.submit(2)]
    assert [s.state for s in machine.final(*handles)] == [JobState.SUCCEEDED] * 3
    assert len(machine.seen) >= 2
    assert sum(alive(pid) for pid in machine.seen) == 1, "more workers than there is room for"


def test_a_killed_worker_is_noticed_and_its_job_done_by_another(tmp_path: Path) -> None:
    once = tmp_path / "once"
    body = f"if not os.path.exists({str(once)!r}): open({str(once)!r}, 'w').close(); os.kill(os.getpid(), 9)"
    machine = Machine(tmp_path, worker_python(tmp_path / "python", body))
    outcomes = machine.drive(*(machine.ready.job(stride) for stride in range(4)))
    committed = [outcome for outcome in outcomes if isinstance(outcome, Committed)]
    assert sorted(outcome.attempts for outcome in committed) == [1, 1, 1, 2]
    (told,) = machine.warnings
    assert "killed by SIGKILL (out of memory?)" in told
    machine.compute.close()


def test_a_broken_engine_fails_no_job_but_its_own(tmp_path: Path) -> None:
    """A CUDA error stays with its process: each job that it were given would fail at once."""
    body = (
        "worker.broken = job.shard.stride == 1 or getattr(worker, 'broken', False)\n"
        "    if worker.broken: raise RuntimeError('CUDA error: an illegal memory access was encountered')"
    )
    machine = Machine(tmp_path, worker_python(tmp_path / "python", body))
    outcomes = machine.drive(*(machine.ready.job(stride) for stride in range(4)))
    committed = {outcome.job.shard.key: outcome.attempts for outcome in outcomes if isinstance(outcome, Committed)}
    (failed,) = (outcome for outcome in outcomes if isinstance(outcome, Failed))
    assert failed.attempts == 3 and "RuntimeError: CUDA error" in failed.error
    assert committed == dict.fromkeys((f"d-{stride:05d}" for stride in (0, 2, 3)), 1)
    assert len(list((tmp_path / "logs").iterdir())) <= 4, "a new process for each that left, and no more"
    assert not machine.compute._seats or machine.compute._seats[0].process.death() is None
    machine.compute.close()


def test_a_worker_killed_from_outside_in_the_middle_of_a_job(tmp_path: Path) -> None:
    machine = Machine(tmp_path, worker_python(tmp_path / "python", HANG))
    handle, waiting = machine.submit(0), machine.submit(1)
    (status,) = machine.until(JobState.RUNNING, handles=[handle])
    assert machine.compute.poll([waiting])[waiting].state is JobState.QUEUED
    wait_until(lambda: "working on" in machine.compute.logs(handle), "the job's first words")
    os.kill(status.facts.worker_pid, signal.SIGKILL)
    (status,) = machine.final(handle)
    assert status.state is JobState.FAILED
    assert "SIGKILL" in status.detail
    assert "working on d-00000" in machine.compute.logs(handle)
    machine.until(JobState.RUNNING, handles=[waiting])
    machine.compute.close()


def test_a_worker_that_cannot_start_fails_its_job_with_its_last_words(tmp_path: Path) -> None:
    machine = Machine(tmp_path, shell_python(tmp_path / "python", 'echo "no module named vllm" >&2; exit 3'))
    outcomes = machine.drive(machine.ready.job(0), max_attempts=2)
    (failed,) = (outcome for outcome in outcomes if isinstance(outcome, Failed))
    assert (failed.attempts, failed.error) == (2, "the worker process ended with exit code 3")
    assert "no module named vllm" in failed.log
    machine.compute.close()


def test_what_a_worker_prints_is_not_taken_for_an_answer(tmp_path: Path) -> None:
    body = 'print(\'{"job": "x", "code": 0}\', flush=True); os.write(1, b\'{}\\n\')'
    machine = Machine(tmp_path, worker_python(tmp_path / "python", body))
    handle = machine.submit(0)
    (status,) = machine.final(handle)
    assert status.state is JobState.SUCCEEDED
    assert machine.ready.resource.shard(machine.ready.job(0).shard) is not None
    machine.compute.close()


def test_cancelling_stops_the_worker_and_clears_the_queue(tmp_path: Path) -> None:
    machine = Machine(tmp_path, worker_python(tmp_path / "python", HANG))
    handles = [machine.submit(stride) for stride in range(3)]
    (status,) = machine.until(JobState.RUNNING, handles=handles[:1])
    machine.compute.cancel(handles)
    assert not alive(status.facts.worker_pid)
    assert {s.state for s in machine.compute.poll(handles).values()} == {JobState.CANCELLED}
    machine.compute.cancel(handles)  # once more is no fault
    assert machine.compute.find([handle.name for handle in handles]) == {}
    machine.compute.close()


def test_cancelling_one_leaves_the_others(machine: Machine) -> None:
    handles = [machine.submit(stride) for stride in range(4)]
    machine.compute.cancel([handles[3]])
    assert [s.state for s in machine.final(*handles)] == [JobState.SUCCEEDED] * 3 + [JobState.CANCELLED]
    machine.compute.cancel([handles[0]])
    assert machine.compute.poll([handles[0]])[handles[0]].state is JobState.SUCCEEDED, "what is done stays done"


def test_a_session_leaves_no_process(tmp_path: Path) -> None:
    source = kit.write_jsonl(tmp_path / "s.jsonl", kit.texts(4))
    ready = kit.Prepared(tmp_path / "lake", str(source))
    resource = LocalComputeResource(worker_python=worker_python(tmp_path / "python", HANG))
    with pytest.raises(ZeroDivisionError), resource.session() as compute:
        handle = compute.submit("n", ready.job(0), ready.resource.write_job(ready.job(0)))
        pid = compute.poll([handle])[handle].facts.worker_pid
        assert alive(pid)
        raise ZeroDivisionError
    assert not alive(pid)


def test_a_worker_that_does_not_listen_to_sigterm_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resources.local.process.STOP_SECONDS", 0.2)
    process = WorkerProcess(
        shell_python(tmp_path / "python", "trap '' TERM; echo up >&2; while :; do sleep 1; done"), tmp_path / "log"
    )
    wait_until(lambda: "up" in process.tail(5), "the process is up")
    process.stop()
    assert not alive(process.pid)
    assert process.death() == "the worker process was killed by SIGKILL (out of memory?)"


@pytest.mark.parametrize("python", ["/nowhere/python", "no-such-program-at-all"])
def test_a_missing_environment_is_said_with_its_cure(tmp_path: Path, python: str) -> None:
    with pytest.raises(WorkerMissing, match=r"EMBED_WORKER_PYTHON"):
        WorkerProcess(python, tmp_path / "log")


def test_the_worker_inherits_nothing_of_dagster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGSTER_HOME", "/secret")
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    monkeypatch.setenv("EMBED_SOMETHING", "kept")
    process = WorkerProcess(shell_python(tmp_path / "python", "env >&2"), tmp_path / "log")
    wait_until(process.death, "its end")
    seen = process.tail(200)
    assert "EMBED_SOMETHING=kept" in seen
    assert "DAGSTER_HOME" not in seen
    assert "PYTHONPATH" not in seen
    process.stop()


ORPHAN = """
import sys, time
from pathlib import Path
from resources.local.process import WorkerProcess
process = WorkerProcess(sys.argv[1], Path(sys.argv[2]))
process.send({"query": {"spec": {"model": "embed-worker/hash", "pooling": "mean", "attention": "causal"}, "texts": ["x"]}})
assert process.answer(timeout=60)
print(process.pid, flush=True)
time.sleep(600)
"""


def test_a_worker_whose_parent_was_killed_ends_by_itself(tmp_path: Path) -> None:
    command = [sys.executable, "-c", ORPHAN, sys.executable, str(tmp_path / "log")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        worker = int(parent.stdout.readline())
        assert alive(worker)
        parent.kill()
    wait_until(lambda: not alive(worker), "the worker's end")


def test_queries_are_embedded_with_the_query_prompt(tmp_path: Path) -> None:
    resource = LocalComputeResource(worker_python=sys.executable)
    plain, prompted = kit.spec(), kit.spec(prompts={"query": "find: "})
    first = resource.embed_queries(plain, ["find: x", "x"])
    second = resource.embed_queries(prompted, ["x"])
    assert second[0] == first[0] != first[1]
    assert sum(v * v for v in second[0]) == pytest.approx(1)


def test_a_query_that_cannot_be_embedded_says_why(tmp_path: Path) -> None:
    resource = LocalComputeResource(worker_python=sys.executable)
    with pytest.raises(RuntimeError, match="no model at /nowhere"):
        resource.embed_queries(kit.spec(model="m/m", location="/nowhere"), ["x"])
    dead = LocalComputeResource(worker_python=shell_python(tmp_path / "python", 'echo "bad luck" >&2; exit 9'))
    with pytest.raises(RuntimeError, match=r"exit code 9[\s\S]*bad luck"):
        dead.embed_queries(kit.spec(), ["x"])


def test_the_driver_embeds_a_whole_dataset_with_real_workers(machine: Machine) -> None:
    jobs = [machine.ready.job(stride) for stride in range(4)]
    outcomes = [outcome for outcome in machine.drive(*jobs) if isinstance(outcome, Committed)]
    assert sorted(outcome.job.shard.key for outcome in outcomes) == [job.shard.key for job in jobs]
    assert sum(outcome.manifest.rows_embedded for outcome in outcomes) == 20
    before = json.dumps([outcome.manifest.created_at for outcome in outcomes])
    again = [outcome for outcome in machine.drive(*jobs) if isinstance(outcome, Committed)]
    assert all(outcome.adopted for outcome in again)
    assert sorted(json.loads(before)) == sorted(outcome.manifest.created_at for outcome in again)
