"""A project made by `create-dagster`, and `dg` in it: as a user would, with this tree as if it were installed."""

import os
import subprocess
import sys
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg

from tests.kits import ROOT

BIN = Path(sys.executable).parent


@dataclass
class DgProject:
    """A folder with the project, Dagster's home and a lake in it."""

    folder: Path
    name: str = "project"
    more_env: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.root, self.lake = self.folder / self.name, self.folder / "lake"
        self.defs = self.root / "src" / self.name / "defs"
        self.home = self.folder / "home"
        self.home.mkdir()
        (self.home / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
        self._install(self.folder / "site")
        self.call("create-dagster", "project", str(self.root), "--no-uv-sync", cwd=self.folder)

    def dg(self, *arguments: str) -> str:
        """What `dg` says; fails the test where it fails."""
        return self.call("dg", *arguments, cwd=self.root)

    def call(self, program: str, *arguments: str, cwd: Path) -> str:
        done = subprocess.run(
            [BIN / program, *arguments],
            cwd=cwd,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=280,
            check=False,
        )
        said = done.stdout + done.stderr
        assert done.returncode == 0, f"{program} {' '.join(arguments)}\n{said[-6000:]}"
        return said

    def materialized(self, *key: str) -> set[str]:
        """Partitions of an asset that are there, by Dagster's event log."""
        with dg.DagsterInstance.from_config(str(self.home)) as instance:
            return set(instance.get_materialized_partitions(dg.AssetKey(list(key))))

    def latest(self, *key: str, partition: str) -> dict[str, Any]:
        """Metadata of a partition's latest materialization."""
        with dg.DagsterInstance.from_config(str(self.home)) as instance:
            asked = dg.AssetRecordsFilter(asset_key=dg.AssetKey(list(key)), asset_partitions=[partition])
            (record,) = instance.fetch_materializations(asked, limit=1).records
        assert record.asset_materialization is not None
        return {name: value.value for name, value in record.asset_materialization.metadata.items()}

    @property
    def env(self) -> dict[str, str]:
        return (
            os.environ
            | self.more_env
            | {
                "PYTHONPATH": os.pathsep.join(
                    map(str, [self.folder / "site", ROOT, ROOT / "sky", self.root / "src"]),
                ),
                "DAGSTER_HOME": str(self.home),
                "EMBED_LAKE": str(self.lake),
                "EMBED_WORKER_PYTHON": sys.executable,
                "DAGSTER_DG_UPDATE_CHECK_ENABLED": "0",
                "COLUMNS": "200",
            }
        )

    def _install(self, site: Path) -> None:
        """What pip would leave of this tree's pyproject.toml: the entry points that `dg` looks for."""
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        info = site / f"embed_assets-{project['version']}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: embed-assets\nVersion: {project['version']}\n")
        lines = [
            f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in points.items())
            for group, points in project["entry-points"].items()
        ]
        (info / "entry_points.txt").write_text("\n".join(lines))
