"""Fixtures of the commands' tests."""

from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from tests.kits.pipelines import Prepared


@pytest.fixture
def cli(prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    path = tmp_path / "p.yaml"
    path.write_text(yaml.safe_dump(prepared.pipeline.model_dump(mode="json")))
    monkeypatch.setenv("EMBED_PIPELINES", str(path))
    monkeypatch.setenv("EMBED_LAKE", prepared.store.root)
    monkeypatch.setenv("COLUMNS", "200")
    return CliRunner()
