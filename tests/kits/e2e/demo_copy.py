"""A small copy of the demo: the same sources, model and code, fewer rows."""

import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import yaml

from tests.kits import ROOT

WORKER_PYTHON = ROOT / ".venv-worker/bin/python"


class Deployment(Protocol):
    """What a deployment of any kind has."""

    folder: Path
    env: dict[str, str]

    @property
    def lake(self) -> Path: ...


@dataclass
class DemoCopy:
    """A deployment of its own: pipeline file, lake, DAGSTER_HOME."""

    folder: Path
    rows: int
    env: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        value = yaml.safe_load((ROOT / "pipelines/demo.yaml").read_text())
        for dataset in value["datasets"]:
            dataset["rows"] = {"end": self.rows}
            dataset["strides"] = 3
        value["checkpoint_rows"] = 64
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "demo.yaml").write_text(yaml.safe_dump(value))
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("EMBED_", "DAGSTER_"))}
        self.env = kept | {
            "EMBED_PIPELINES": str(self.folder / "demo.yaml"),
            "EMBED_LAKE": str(self.lake),
            "EMBED_WORKER_PYTHON": str(WORKER_PYTHON),
            "DAGSTER_HOME": str(self.folder / "home"),
            "COLUMNS": "200",
        }

    @property
    def lake(self) -> Path:
        return self.folder / "lake"

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """`embed-assets ARGUMENTS`, in a session of its own."""
        command = [sys.executable, "-c", "from embed_assets.cli.app import app; app()", *arguments]
        return subprocess.Popen(
            command, cwd=ROOT, env=self.env, text=True, start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def run(self, *arguments: str, code: int = 0) -> str:
        """The command's output; fails the test where it does not end with `code`."""
        process = self.start(*arguments)
        output, _ = process.communicate(timeout=600)
        assert process.returncode == code, f"embed-assets {' '.join(arguments)}: exit {process.returncode}\n{output}"
        return output

    def manifests(self) -> dict[str, bytes]:
        """Every shard manifest by path."""
        found = self.lake.glob("embedding_shards/*/*/*/*/*/_manifest.json")
        return {str(path.relative_to(self.lake)): path.read_bytes() for path in found}

    def checkpoints(self) -> int:
        return len(list(self.lake.glob("embedding_shards/*/*/*/*/*/checkpoints/rows-*/*.json")))


def processes_of(deployment: Deployment, needle: str = "") -> list[int]:
    """Processes started with this deployment's lake, whose command line holds `needle`."""
    mark = f"EMBED_LAKE={deployment.lake}".encode()
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (folder / "environ").read_bytes() and needle.encode() in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
        except (OSError, ValueError):
            continue
    return found
