"""What is launched: the shipped files as the real SkyPilot reads them, the overrides, the staged worker."""

import importlib.metadata
import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from embed_assets.deployment import compute_resource
from embed_assets.settings import Settings
from resources.compute import BackendBroken
from resources.local.process import WorkerMissing
from resources.local.resource import LocalComputeResource
from resources.skypilot.resource import SkyPilotResource
from resources.skypilot.task import (
    WORKER_FILES,
    Overrides,
    for_pool,
    load_task,
    stage_worker,
    with_overrides,
    with_secrets,
)
from tests.kits import ROOT
from tests.kits import pipelines as kit
from tests.kits.slurm_lab.catalogs import seed_catalogs

GPUS = ["L4", "A10G", "L40S", "A100", "A100-80GB", "H100"]

READ = """
import json, sys, yaml
import sky
tasks, given = {}, {"EMBED_JOB": "s3://x/job.json", "EMBED_LAKE": "s3://x/lake"}
for name, path in json.loads(sys.argv[1]).items():
    value = yaml.safe_load(open(path))
    wanted = [(key, given[key]) for key in value.get("envs") or {} if key in given]
    task = sky.Task.from_yaml_config(value, env_overrides=wanted)
    tasks[name] = {
        "order": type(task.resources).__name__,
        "resources": [
            {
                "gpus": r.accelerators, "spot": r.use_spot, "recovery": r.job_recovery, "disk": r.disk_size,
                "dollars": r.max_hourly_cost, "cpus": r.cpus, "memory": r.memory, "ports": r.ports, "cloud": str(r.cloud), "region": r.region,
                "zone": r.zone,
            }
            for r in task.resources
        ],
        "envs": task.envs, "secrets": sorted(task.secrets), "workdir": task.workdir, "setup": task.setup,
        "pool": None if task.service is None else [task.service.pool, task.service.min_replicas],
    }
print(json.dumps(tasks))
"""


@pytest.fixture(scope="module")
def parsed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The files through SkyPilot's own parser, offline, in a process and a HOME of its own."""
    try:
        importlib.metadata.version("skypilot")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("skypilot is not installed: pip install -e '.[dev]'")
    home = tmp_path_factory.mktemp("home")
    seed_catalogs(home)
    (home / "cpu.yaml").write_text(
        yaml.safe_dump(
            with_overrides(
                load_task(None, "embed_partition.yaml"),
                Overrides(infra="slurm/cluster/part", accelerators="none", use_spot=False, cpus="1", memory="2"),
            )
        )
    )
    files = {
        "task": str(ROOT / "sky/embed_partition.yaml"),
        "pool": str(ROOT / "sky/pool.yaml"),
        "slurm": str(home / "cpu.yaml"),
        "monitor": str(ROOT / "sky/monitor.yaml"),
    }
    env = {"HOME": str(home), "PATH": "/usr/bin:/bin", "SKYPILOT_DISABLE_USAGE_COLLECTION": "1"}
    done = subprocess.run(
        [sys.executable, "-c", READ, json.dumps(files)], env=env, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.slow
def test_the_task_asks_for_cheap_gpus_first_and_for_none_at_any_price(parsed: dict[str, Any]) -> None:
    task = parsed["task"]
    assert task["order"] == "list"  # `ordered`: tried from top to bottom
    found = [(next(iter(r["gpus"])), r["spot"]) for r in task["resources"]]
    assert found[:4] == [("L4", True), ("A10G", True), ("L40S", True), ("L4", False)]
    assert all(spot for gpu, spot in found if gpu in ("A100", "A100-80GB", "H100")), "dear ones only as spot"
    assert {gpu for gpu, _ in found} == set(GPUS)
    for resources in task["resources"]:
        assert resources["gpus"][next(iter(resources["gpus"]))] == 1
        assert resources["recovery"] == {
            "strategy": "EAGER_NEXT_REGION", "recover_on_exit_codes": [75], "max_restarts_on_errors": 0,
        }  # fmt: skip
        assert (resources["cpus"], resources["memory"], resources["disk"]) == ("4+", "16+", 150)
        assert resources["dollars"] == 3.0
        assert resources["ports"] is None and resources["region"] is None and resources["zone"] is None
    assert task["envs"] == {"EMBED_JOB": "s3://x/job.json", "EMBED_WORKER_PYTHON": "", "EMBED_MAX_STARTS": "10"}
    assert task["secrets"] == ["HF_TOKEN"]
    assert task["workdir"] == "sky" and task["setup"] == "bash setup_node.sh"


@pytest.mark.slow
def test_the_pool_is_one(parsed: dict[str, Any]) -> None:
    pool = parsed["pool"]
    assert pool["pool"] == [True, 2]
    assert {r["spot"] for r in pool["resources"]} == {True, False}
    assert pool["setup"] == parsed["task"]["setup"]


@pytest.mark.slow
def test_the_monitors_cluster_is_small_and_opens_no_port(parsed: dict[str, Any]) -> None:
    (only,) = parsed["monitor"]["resources"]
    assert only["gpus"] is None and only["ports"] is None and (only["cpus"], only["memory"]) == ("2+", "4+")
    envs = parsed["monitor"]["envs"]
    assert (envs["EMBED_LAKE"], envs["EMBED_MONITOR_HOST"]) == ("s3://x/lake", "127.0.0.1")
    assert parsed["monitor"]["secrets"] == ["EMBED_MONITOR_TOKEN"] and parsed["monitor"]["workdir"] == "."


@pytest.mark.slow
def test_overrides_for_slurm_leave_one_plain_request(parsed: dict[str, Any]) -> None:
    (only,) = parsed["slurm"]["resources"]
    assert only["gpus"] is None and only["spot"] is False and (only["cpus"], only["memory"]) == ("1", "2")
    assert (only["cloud"], only["region"], only["zone"]) == ("Slurm", "cluster", "part")
    assert only["recovery"]["recover_on_exit_codes"] == [75]


def test_the_repository_does_not_shadow_skypilot() -> None:
    script = "import importlib.util as u; print(u.find_spec('sky').origin)"
    origin = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "site-packages" in origin


@pytest.mark.parametrize(
    ("overrides", "resources"),
    [
        (Overrides(), {"cpus": "4", "ordered": [{"accelerators": "L4:1", "use_spot": True}, {"accelerators": "L4:1"}]}),
        (Overrides(use_spot=True), {"cpus": "4", "accelerators": "L4:1", "use_spot": True}),
        (Overrides(accelerators="none", use_spot=False), {"cpus": "4", "use_spot": False}),
        (
            Overrides(accelerators="A100:1, H100:1", use_spot=False),
            {
                "cpus": "4",
                "ordered": [
                    {"accelerators": "A100:1", "use_spot": False},
                    {"accelerators": "H100:1", "use_spot": False},
                ],
            },
        ),
        (
            Overrides(accelerators="H100:1", cpus="8+", infra="aws"),
            {
                "cpus": "8+",
                "infra": "aws",
                "ordered": [{"accelerators": "H100:1", "use_spot": True}, {"accelerators": "H100:1"}],
            },
        ),
    ],
)
def test_overrides(overrides: Overrides, resources: dict[str, Any]) -> None:
    config = {
        "resources": {
            "cpus": "4",
            "ordered": [{"accelerators": "L4:1", "use_spot": True}, {"accelerators": "L4:1"}],
        }
    }
    assert with_overrides(config, overrides)["resources"] == resources
    assert "cpus" in config["resources"] and len(config["resources"]["ordered"]) == 2  # the original is left alone


def test_envs_are_added_and_secrets_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "value")
    config = with_overrides(
        load_task(None, "embed_partition.yaml"), Overrides(envs={"EMBED_MAX_STARTS": "3", "X": "y"})
    )
    assert config["envs"] == {"EMBED_JOB": None, "EMBED_WORKER_PYTHON": "", "EMBED_MAX_STARTS": "3", "X": "y"}
    assert with_secrets(config, ["HF_TOKEN"])["secrets"] == {"HF_TOKEN": "value"}
    assert "value" not in json.dumps(config)
    with pytest.raises(BackendBroken, match="NOT_THERE"):
        with_secrets(config, ["HF_TOKEN", "NOT_THERE"])


@pytest.mark.parametrize("content", [None, "a: [", "- a list"])
def test_a_bad_task_file_is_named(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "mine.yaml"
    if content is not None:
        file.write_text(content)
    with pytest.raises(BackendBroken, match=r"mine\.yaml"):
        load_task(str(file), "embed_partition.yaml")


def test_the_staged_worker_is_complete_and_starts(tmp_path: Path) -> None:
    config = stage_worker({"workdir": "sky"}, tmp_path)
    assert config["workdir"] == str(tmp_path)
    assert not list(tmp_path.rglob("__pycache__"))
    assert {path.name for path in tmp_path.iterdir()} == {"embed_worker", "pyproject.toml", "locks", "setup_node.sh"}
    assert {path.name for path in (tmp_path / "locks").iterdir()} == {
        f"worker-{kind}.txt" for kind in ("cpu", "gpu", "lake")
    }
    script = "import embed_worker, embed_worker.lake.job; print(embed_worker.__file__)"
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.startswith(str(tmp_path))


def test_a_job_for_a_pool_asks_for_no_machine_of_its_own() -> None:
    config = for_pool(load_task(None, "embed_partition.yaml"))
    assert list(config["resources"]) == ["job_recovery"]
    assert config["resources"]["job_recovery"]["recover_on_exit_codes"] == [75]


def test_a_workdir_of_the_users_own_is_kept(tmp_path: Path) -> None:
    assert stage_worker({"workdir": "/mine"}, tmp_path) == {"workdir": "/mine"}


def test_the_wheel_carries_the_task_files(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "-o", str(tmp_path), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    for name in ("embed_partition.yaml", "pool.yaml", *WORKER_FILES):
        assert f"resources/sky_files/{name}" in names
    assert "embed_worker/__main__.py" in names and not any(name.startswith("sky/") for name in names)


def test_the_backend_is_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(compute_resource(Settings()), LocalComputeResource)
    for name, value in {
        "EMBED_COMPUTE": "skypilot", "EMBED_SKY_INFRA": "gcp/us-central1", "EMBED_SKY_USE_SPOT": "false",
        "EMBED_SKY_ENVS": '{"A": "b"}', "EMBED_SKY_POOL": "", "EMBED_SKY_MAX_CONCURRENT_JOBS": "7",
        "EMBED_WORKER_PYTHON": "/nowhere/python",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    resource = compute_resource(Settings())
    assert isinstance(resource, SkyPilotResource)
    assert resource.infra == "gcp/us-central1" and resource.use_spot is False and resource.envs == {"A": "b"}
    assert resource.pool is None and resource.max_concurrent_jobs == 7
    with pytest.raises(
        WorkerMissing, match="search queries on this machine, but there is no worker environment at /now"
    ):
        resource.embed_queries(kit.spec(), ["a"])


def stub(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


def node(folder: Path, uv: str, driver: str = "580.95.05", **environment: str) -> "subprocess.CompletedProcess[str]":
    """Runs the set-up of a node whose programs are stubs, its Python the one of the test."""
    stub(folder, "nvidia-smi", f"echo {driver}")
    stub(folder, "sleep", "exit 0")
    stub(folder, "uv", uv)
    (folder / ".embed-worker/bin").mkdir(parents=True, exist_ok=True)
    stub(folder / ".embed-worker/bin", "python", f'echo preflight "$@" >> {folder}/asked')
    stub(folder, "python3", f'exec {sys.executable} "$@"')
    env = {"HOME": str(folder), "PATH": f"{folder}:/usr/bin:/bin", "EMBED_NODE_FREE_GB": "0.001", **environment}
    staged = folder / "staged"
    if not staged.exists():
        staged.mkdir()
        stage_worker({"workdir": "sky"}, staged)
    return subprocess.run(["bash", str(staged / "setup_node.sh")], env=env, capture_output=True, text=True)


@pytest.mark.parametrize(("outage", "code"), [(2, 0), (3, 1)])
def test_setup_outlasts_a_short_outage_of_the_package_index(tmp_path: Path, outage: int, code: int) -> None:
    tried = tmp_path / "tried"
    done = node(tmp_path, f'[ "$1" = pip ] || exit 0; echo >> {tried}; [ $(wc -l < {tried}) -gt {outage} ]')
    assert done.returncode == code, done.stderr
    assert len(tried.read_text().splitlines()) == (3 if code else outage + 3)
    assert "once more in 60 s: uv pip install" in done.stderr and ("make locks" in done.stderr) == bool(code)


def test_setup_outlasts_a_short_outage_of_where_python_comes_from(tmp_path: Path) -> None:
    tried, python = tmp_path / "tried", tmp_path / ".embed-worker/bin/python"
    made = f"mv {python}.later {python}"
    uv = f'[ "$1" = venv ] || exit 0; echo >> {tried}; [ $(wc -l < {tried}) -gt 2 ] && {made}'
    node(tmp_path, uv)
    python.rename(f"{python}.later")
    env = {"HOME": str(tmp_path), "PATH": f"{tmp_path}:/usr/bin:/bin", "EMBED_NODE_FREE_GB": "0.001"}
    done = subprocess.run(["bash", str(tmp_path / "staged/setup_node.sh")], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(tried.read_text().splitlines()) == 3


def test_setup_asks_the_lake_before_it_fetches_the_engine(tmp_path: Path) -> None:
    done = node(tmp_path, f'echo "$@" >> {tmp_path}/asked', EMBED_JOB="s3://b/lake/jobs/x.json")
    assert done.returncode == 0, done.stderr
    lake, probe, gpu, own, kernel = (tmp_path / "asked").read_text().splitlines()
    assert lake.endswith("--no-deps --require-hashes -r locks/worker-lake.txt")
    assert probe == "preflight -m embed_worker.preflight lake s3://b/lake/jobs/x.json"
    assert gpu.endswith("--no-deps --require-hashes -r locks/worker-gpu.txt")
    assert own.endswith("--no-deps --no-build-isolation .") and kernel.endswith("preflight gpu")


def test_a_node_with_an_old_driver_downloads_nothing(tmp_path: Path) -> None:
    done = node(tmp_path, f"touch {tmp_path}/downloaded", driver="535.183.01")
    assert done.returncode == 1 and not (tmp_path / "downloaded").exists()
    assert "the driver is 535, worker-gpu.txt installs a CUDA that needs 580 or newer" in done.stderr
    assert "Traceback" not in done.stderr
