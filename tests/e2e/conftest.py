"""Fixtures of the whole-system tests."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from embed_assets.demo.fetch import fetch_demo_files
from embed_assets.demo.home import prepare_home
from tests.kits import ROOT
from tests.kits.e2e.demo_copy import WORKER_PYTHON, DemoCopy, processes_of


@pytest.fixture(scope="session")
def demo_files() -> None:
    """The reviews and the weights, where `make setup-test` has not fetched them already."""
    fetch_demo_files(ROOT / ".demo")


@pytest.fixture
def deploy(tmp_path: Path, demo_files: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], DemoCopy]]:
    """Makes deployments; nothing that they started outlives the test."""
    if not WORKER_PYTHON.exists():
        pytest.skip(f"{WORKER_PYTHON} is not there: `make setup` builds it")
    made: list[DemoCopy] = []

    def make(rows: int) -> DemoCopy:
        deployment = DemoCopy(tmp_path / f"d{len(made)}", rows)
        monkeypatch.setenv("DAGSTER_HOME", deployment.env["DAGSTER_HOME"])
        prepare_home(Path(deployment.env["DAGSTER_HOME"]))
        made.append(deployment)
        return deployment

    yield make
    for deployment in made:
        for pid in processes_of(deployment):
            os.kill(pid, signal.SIGKILL)
