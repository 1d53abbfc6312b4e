"""The slurm lab itself: a managed job runs, a preempted one comes back, nothing is left and nothing leaks out."""

from __future__ import annotations

import json
import socket
import subprocess
import textwrap
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kits import ROOT
from tests.kits.pipelines import Prepared
from tests.kits.slurm_lab import SlurmLab

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(900)]

CLIENT = """
import json, sys
import sky, yaml
action, *rest = sys.argv[1:]
if action == "launch":
    name, infra, run = rest
    task = sky.Task(name=name, run=run)
    task.set_resources(sky.Resources(infra=infra, cpus=1))
    print(json.dumps(sky.get(sky.jobs.launch(task, name=name))[0]))
elif action == "queue":
    rows = sky.get(sky.jobs.queue_v2(refresh=False, fields=None))[0]
    keys = ("job_id", "job_name", "recovery_count", "infra", "failure_reason", "job_duration")
    print(json.dumps([{**{k: row[k] for k in keys}, "status": row["status"].value} for row in rows]))
elif action == "logs":
    sky.jobs.tail_logs(job_id=int(rest[0]), follow=False)
elif action == "monitor":
    file, folder, infra, *envs = rest
    config = yaml.safe_load(open(file))
    config["workdir"] = folder
    config["envs"].update(one.split("=", 1) for one in envs)
    task = sky.Task.from_yaml_config(config)
    task.set_resources(sky.Resources(infra=infra, cpus=1))
    sky.get(sky.launch(task, cluster_name="embed-monitor"))
    print("{}")
elif action == "down":
    sky.get(sky.down(rest[0]))
    print("{}")
elif action == "price":
    spot = sky.Resources(infra="aws", accelerators="L4:1", use_spot=True)
    machines = spot.cloud.get_feasible_launchable_resources(spot, 1).resources_list
    print(json.dumps(min(machine.get_cost(3600) for machine in machines)))
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlurmLab]:
    lab = SlurmLab(tmp_path_factory.mktemp("lab"))
    if lacking := lab.missing():
        pytest.skip("; ".join(lacking))
    try:
        yield lab.up()
    finally:
        lab.down()
        print("slurm lab:", json.dumps(lab.seconds))


def client(lab: SlurmLab, *arguments: str) -> Any:
    """Run the SDK in a process of its own: that is how Dagster's run worker sees the API server."""
    command = [str(lab.sky_python), "-c", CLIENT, *arguments]
    done = subprocess.run(command, env=lab.env(), cwd=lab.folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{done.stdout}{done.stderr}\n{lab.logs()}"
    return done.stdout if arguments[0] == "logs" else json.loads(done.stdout.splitlines()[-1])


def wait(lab: SlurmLab, job: int, until: str, seconds: float, recoveries: int = 0) -> dict[str, Any]:
    deadline = time.monotonic() + seconds
    while True:
        row = next(row for row in client(lab, "queue") if row["job_id"] == job)
        if row["status"] == until and row["recovery_count"] >= recoveries:
            return row
        if time.monotonic() > deadline or "FAILED" in row["status"] or row["status"] == "SUCCEEDED":
            pytest.fail(f"job {job} is {row}, not {until}\n{lab.logs()}")
        time.sleep(3)


def test_up_is_idempotent_and_inside(lab: SlurmLab) -> None:
    before = lab.status()
    assert all(before.values())
    lab.up()
    assert lab.status() == before
    assert lab.outside_connections() == []


def test_catalogs_give_prices_without_internet(lab: SlurmLab) -> None:
    assert client(lab, "price") == pytest.approx(0.30)


def test_job_succeeds_and_preempted_job_recovers(lab: SlurmLab) -> None:
    script = """
        set -e
        echo attempt >> {mark}
        echo python is $(command -v python) in job $SKYPILOT_MANAGED_JOB_ID
        if [ $(wc -l < {mark}) = 1 ]; then sleep {first}; fi
        echo finished >> {mark}
    """
    marks = {name: lab.folder / f"{name}.txt" for name in ("plain", "preempted")}
    began = time.monotonic()
    plain, preempted = (
        client(lab, "launch", name, lab.infra(), textwrap.dedent(script).format(mark=mark, first=first))[0]
        for (name, mark), first in zip(marks.items(), (1, 600), strict=True)
    )
    lab.seconds["submit_two"] = round(time.monotonic() - began, 1)
    wait(lab, preempted, "RUNNING", 300)
    lab.seconds["running"] = round(time.monotonic() - began, 1)
    deadline = time.monotonic() + 60
    while not marks["preempted"].exists() and time.monotonic() < deadline:
        time.sleep(0.5)
    assert lab.outside_connections() == []

    began = time.monotonic()
    assert lab.preempt("preempted")
    row = wait(lab, plain, "SUCCEEDED", 240)
    assert row["recovery_count"] == 0
    row = wait(lab, preempted, "SUCCEEDED", 400, recoveries=1)
    lab.seconds["preempt_to_succeeded"] = round(time.monotonic() - began, 1)
    assert row["recovery_count"] == 1
    assert marks["plain"].read_text().split() == ["attempt", "finished"]
    assert marks["preempted"].read_text().split() == ["attempt", "attempt", "finished"]
    assert f"in job {preempted}" in client(lab, "logs", str(preempted))
    assert lab.outside_connections() == []
    assert lab.refused_connections() == []


def test_the_monitor_runs_beside_the_data(lab: SlurmLab, tmp_path: Path) -> None:
    """The shipped task as it is, but for the machine's size and the environment, which is there already."""
    lake = tmp_path / "lake"
    source = tmp_path / "source.jsonl"
    source.write_text('{"id": "1", "text": "one"}\n{"id": "2", "text": "two"}\n')
    Prepared(lake, str(source)).embed(0)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    envs = {"EMBED_LAKE": lake, "EMBED_MONITOR_PORT": port, "EMBED_MONITOR_PYTHON": ROOT / ".venv/bin/python"}
    given = [f"{name}={value}" for name, value in envs.items()]
    client(lab, "monitor", str(ROOT / "sky/monitor.yaml"), str(ROOT), lab.infra(), *given)
    try:
        progress = fetch(f"http://127.0.0.1:{port}/api/progress", 180)
        assert progress["rows_done"] == 1 and progress["lake"] == str(lake)
        assert lab.outside_connections() == []
    finally:
        client(lab, "down", "embed-monitor")
    with pytest.raises(OSError):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/api/progress", timeout=3)


def fetch(url: str, seconds: float) -> Any:
    deadline = time.monotonic() + seconds
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310
                return json.load(answer)
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(1)


@pytest.mark.parametrize("kill", [True, False], ids=["crash", "restart"])
def test_api_outage_and_return(lab: SlurmLab, kill: bool) -> None:
    jobs = client(lab, "queue")
    lab.api_down(kill=kill)
    assert not lab.sky.healthy()
    assert lab.status()["slurmctld"]
    lab.api_up()
    assert client(lab, "queue") == jobs


def test_down_leaves_nothing(lab: SlurmLab) -> None:
    assert lab.processes()
    home = sorted(path.name for path in Path.home().iterdir())
    SlurmLab(lab.folder, lab.sky_python).down()  # another object, as after a crash of the first one's process
    assert lab.processes() == []
    assert not any(lab.status().values())
    assert not lab.sky.sockets.exists()
    assert set(home) >= {path.name for path in Path.home().iterdir()}
