"""The warm pool: what is asked for, and what its status says."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from embed_assets.cli.app import app
from resources.compute import BackendBroken
from resources.skypilot.pool import Pool, PoolStatus, PoolWorker
from resources.skypilot.settings import SkyPilotFields


class FakeClient:
    def __init__(self) -> None:
        self.asked: list[tuple[dict[str, Any], str]] = []
        self.records: list[dict[str, Any]] = []
        self.files: set[str] = set()

    def pool_up(self, config: dict[str, Any], name: str) -> None:
        self.asked.append((config, name))
        self.files = {path.name for path in Path(config["workdir"]).iterdir()}

    def pool_status(self, name: str) -> list[dict[str, Any]]:
        return self.records

    def pool_down(self, name: str) -> None:
        self.records = []


def pool(**settings: Any) -> tuple[Pool, FakeClient]:
    client = FakeClient()
    return Pool(SkyPilotFields(**settings), client), client  # type: ignore[arg-type]


def test_up_asks_for_the_shipped_pool_with_the_overrides() -> None:
    subject, client = pool(infra="slurm/lab", accelerators="none", use_spot=False, envs={"EMBED_WORKER_PYTHON": "/p"})
    subject.up(workers=5)
    config, name = client.asked[0]
    assert name == "embed" and config["pool"] == {"workers": 5}
    assert config["resources"]["infra"] == "slurm/lab" and "ordered" not in config["resources"]
    assert config["envs"] == {"EMBED_WORKER_PYTHON": "/p"}
    assert {"embed_worker", "setup_node.sh"} <= client.files


def test_a_file_without_a_pool_section_is_named(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text("run: true")
    with pytest.raises(BackendBroken, match=r"p\.yaml has no `pool` section"):
        pool()[0].up(str(tmp_path / "p.yaml"))


def test_status() -> None:
    subject, client = pool(pool="warm")
    assert subject.status() is None
    client.records = [
        {
            "name": "warm", "status": SimpleNamespace(value="READY"),
            "replica_info": [
                {"replica_id": 1, "status": SimpleNamespace(value="READY"), "infra": "Slurm (lab)", "used_by": [7, 8]},
                {"replica_id": 2, "status": "PROVISIONING", "cloud": "aws", "region": "us-east-1", "used_by": None},
            ],
        }
    ]  # fmt: skip
    found = subject.status()
    assert found == PoolStatus(
        "warm",
        "READY",
        (PoolWorker(1, "READY", "Slurm (lab)", (7, 8)), PoolWorker(2, "PROVISIONING", "aws, us-east-1", ())),
    )
    assert found.ready == 1


def test_the_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    client = FakeClient()
    monkeypatch.setattr("resources.skypilot.pool.SkyClient", lambda *_: client)
    monkeypatch.setenv("EMBED_SKY_POOL", "warm")
    run = CliRunner().invoke
    assert run(app, ["pool", "status"]).exit_code == 2
    result = run(app, ["pool", "up", "--workers", "3"])
    assert result.exit_code == 0 and "EMBED_SKY_POOL=warm" in result.output.replace("\n", "")
    client.records = [{"name": "warm", "status": "READY", "replica_info": []}]
    result = run(app, ["pool", "status"])
    assert result.exit_code == 0 and "pool warm: READY" in result.output
    assert run(app, ["pool", "down"]).exit_code == 0
