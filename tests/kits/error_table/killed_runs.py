"""What Dagster itself says: a code server, a run and a worker in processes of their own, some of them killed."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import PythonFileTarget
from dagster._daemon.run_coordinator.queued_run_coordinator_daemon import QueuedRunCoordinatorDaemon

from tests.kits import ROOT
from tests.kits.compute.worker_python import shell_python
from tests.kits.e2e.dagster_api import DONE, Dagster
from tests.kits.error_table.registry import provokes
from tests.kits.error_table.scene import Scene
from tests.kits.graph_bench import SHARDS
from tests.kits.processes import alive, wait_until

DEFINITIONS = """
import sys
sys.path[:0] = [{root!r}, {root!r} + "/sky"]
from embed_assets.deployment import deployed
from embed_assets.settings import Settings
from resources.local.resource import LocalComputeResource
from tests.kits import pipelines as kit
dataset = kit.dataset({source!r}, name="a", strides=2)
worker = LocalComputeResource(worker_python={python!r}, poll_seconds=0.1)
defs = deployed([kit.pipeline([dataset])], Settings(lake={lake!r}), worker)
"""
ONE_AT_A_TIME = {
    "compute_logs": {"module": "dagster._core.storage.noop_compute_log_manager", "class": "NoOpComputeLogManager"},
    "concurrency": {"runs": {"max_concurrent_runs": 1}},
    "telemetry": {"enabled": False},
}


class SmallDagster(Dagster):
    """A code server, and what `dagster dev` does with it, in this process."""

    def __init__(self, context: WorkspaceProcessContext, home: Path) -> None:
        self.context = context
        super().__init__("", home)

    def ask(self, query: str, **variables: Any) -> dict[str, Any]:
        from dagster_graphql.cli import execute_query

        found = execute_query(self.context, query, variables)
        assert "errors" not in found, found["errors"]
        return dict(found["data"])

    def look_at_the_queue(self) -> None:
        """What the daemon does every few seconds."""
        list(QueuedRunCoordinatorDaemon(interval_seconds=1).run_iteration(self.context))

    def begin(self) -> tuple[str, int]:
        """A run of one shard, whose worker has it in hand; the run and its process."""
        run = self.launch(SHARDS.path, "a-00000", "a-00000")
        self.look_at_the_queue()
        self.is_at_work(run)
        pid = self.pid(run)
        assert pid is not None
        return run, pid

    def is_at_work(self, run: str) -> None:
        wait_until(lambda: "1 running" in "\n".join(self.messages(run)), "a job is running")

    def ended(self, run: str) -> str:
        """All that the run says, when it is over."""
        wait_until(lambda: self.status(run) in DONE, "the run's end")
        with self.instance() as instance:
            entries = instance.all_logs(run)
        return "\n".join(entry.dagster_event.message or "" for entry in entries if entry.dagster_event) + "\n".join(
            entry.user_message for entry in entries
        )


def code_server_of(process: int) -> int:
    """The process that has started a run's."""
    return int(Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[1])


@contextmanager
def deployment(scene: Scene) -> Iterator[SmallDagster]:
    """Its workers do nothing, until their run is gone."""
    assert scene.ready
    home, file = scene.folder / "home", scene.folder / "definitions.py"
    home.mkdir(exist_ok=True)
    python = shell_python(scene.folder / "python", "exec cat > /dev/null")
    file.write_text(
        DEFINITIONS.format(root=str(ROOT), source=str(scene.source), python=python, lake=str(scene.bench.lake))
    )
    target = PythonFileTarget(str(file), "defs", str(ROOT), "scene")
    with (
        dg.DagsterInstance.local_temp(str(home), overrides=ONE_AT_A_TIME) as instance,
        WorkspaceProcessContext(instance, target) as context,
    ):
        yield SmallDagster(context, home)


@provokes("This run has been marked as failed from outside the execution context")
def a_runs_process_is_killed(scene: Scene) -> Iterator[str]:
    with deployment(scene) as dagster:
        run, process = dagster.begin()
        os.kill(process, signal.SIGKILL)
        yield dagster.ended(run)
    scene.made(SHARDS)


@provokes("this run's process is going away", "Execution was interrupted unexpectedly")
def the_code_server_is_killed(scene: Scene) -> Iterator[str]:
    with deployment(scene) as dagster:
        run, process = dagster.begin()
        os.kill(code_server_of(process), signal.SIGKILL)
        yield dagster.ended(run)
    scene.made(SHARDS)


@provokes("QUEUED")
def all_slots_are_taken(scene: Scene) -> Iterator[str]:
    """By a run whose processes are all gone: nobody says that it is over."""
    with deployment(scene) as dagster:
        run, process = dagster.begin()
        for pid in (code_server_of(process), process):
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not alive(process), "its process is gone")
    with deployment(scene) as dagster:
        assert dagster.status(run) == "STARTED"
        other = dagster.launch(SHARDS.path, "a-00001", "a-00001")
        dagster.look_at_the_queue()
        yield dagster.status(other)
        with dagster.instance() as instance:  # Terminate, with *Force termination immediately*
            instance.report_run_canceled(instance.get_run_by_id(run))
        dagster.look_at_the_queue()
        dagster.is_at_work(other)
        dagster.terminate(other)
        dagster.ended(other)
