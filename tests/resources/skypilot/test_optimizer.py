"""What SkyPilot's own optimizer makes of the shipped task, from hand-made price lists."""

import importlib.metadata
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.kits import ROOT
from tests.kits.slurm_lab.catalogs import seed_catalogs

pytestmark = pytest.mark.slow

CASES: dict[str, dict[str, Any]] = {
    "beside an S3 lake": {"lake": "s3://b/lake"},
    "beside a GCS lake": {"lake": "gs://b/lake"},
    "anywhere": {"lake": "s3://b/lake", "infra": "*"},
    "on demand": {"lake": "s3://b/lake", "use_spot": False},
    "a node of eight": {"lake": "s3://b/lake", "accelerators": "H100:8"},
    "a node of eight, allowed": {"lake": "s3://b/lake", "accelerators": "H100:8", "max_hourly_cost": 50},
    "for nothing": {"lake": "s3://b/lake", "max_hourly_cost": 0.1},
}

OPTIMIZE = """
import json, sys
from unittest import mock
import sky
from sky import clouds
from sky.optimizer import Optimizer
from resources.skypilot.settings import SkyPilotFields
from resources.skypilot.task import load_task, with_overrides
enabled = mock.Mock(return_value=[clouds.AWS(), clouds.GCP()])
mock.patch("sky.optimizer.sky_check.get_cached_enabled_clouds_or_refresh", enabled).start()
found = {}
for name, settings in json.loads(sys.argv[1]).items():
    config = with_overrides(load_task(None, "embed_partition.yaml"), SkyPilotFields(**settings).overrides())
    task = sky.Task.from_yaml_config({**config, "envs": {**config["envs"], "EMBED_JOB": "x"}, "workdir": None})
    with sky.Dag() as dag:
        dag.add(task)
    try:
        best = Optimizer.optimize(dag, quiet=True).tasks[0].best_resources
        found[name] = [str(best.cloud), best.instance_type, best.use_spot, best.get_cost(3600)]
    except sky.exceptions.ResourcesUnavailableError:
        found[name] = None
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def chosen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    try:
        importlib.metadata.version("skypilot")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("skypilot is not installed: pip install -e '.[dev]'")
    home: Path = tmp_path_factory.mktemp("home")
    seed_catalogs(home)
    env = {"HOME": str(home), "PATH": "/usr/bin:/bin", "SKYPILOT_DISABLE_USAGE_COLLECTION": "1"}
    command = [sys.executable, "-c", OPTIMIZE, json.dumps(CASES)]
    done = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout.splitlines()[-1]))


def test_jobs_go_to_the_lakes_cloud_and_to_the_cheapest_of_all_only_where_asked(chosen: dict[str, Any]) -> None:
    assert chosen["beside an S3 lake"] == ["AWS", "g6.xlarge", True, pytest.approx(0.3)]
    assert chosen["beside a GCS lake"] == chosen["anywhere"] == ["GCP", "g2-standard-4", True, pytest.approx(0.28)]


def test_a_machine_above_the_price_is_not_taken(chosen: dict[str, Any]) -> None:
    assert chosen["a node of eight"] is None and chosen["for nothing"] is None
    assert chosen["a node of eight, allowed"] == ["AWS", "p5.48xlarge", True, pytest.approx(40.0)]
    assert chosen["on demand"] == ["AWS", "g6.xlarge", False, pytest.approx(0.8)]
