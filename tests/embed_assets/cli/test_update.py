"""`embed-assets update`: the update job in this process, on the instance of DAGSTER_HOME."""

import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from embed_assets.cli.app import app
from tests.kits import pipelines as kit
from tests.kits.pipeline_files import pipeline_file

pytestmark = pytest.mark.slow


@pytest.fixture
def rows(cli: CliRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = kit.write_jsonl(tmp_path / "rows.jsonl", kit.texts(40))
    one = {"source": str(path), "text": "{text}", "id": "{key}", "strides": 2}
    pipeline_file(tmp_path, {"datasets": [{"name": name, **one} for name in ("a", "b")]})
    home = tmp_path / "home"
    home.mkdir()
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    for name, value in {
        "EMBED_PIPELINES": tmp_path / "p.yaml", "EMBED_LAKE": tmp_path / "lake", "DAGSTER_HOME": home,
        "EMBED_WORKER_PYTHON": sys.executable,
    }.items():  # fmt: skip
        monkeypatch.setenv(name, str(value))
    return path


def test_what_is_due_is_taken_and_what_each_dataset_has_is_said(cli: CliRunner, rows: Path) -> None:
    first = cli.invoke(app, ["update"])
    assert first.exit_code == 0, first.output
    assert "p/a  40 rows, 40 vectors" in first.output and "p/b  40 rows, 40 vectors" in first.output
    kit.write_jsonl(rows, [*kit.texts(40)[1:], {"key": "new", "text": "new"}])
    second = cli.invoke(app, ["update", "--dataset", "a"])
    assert second.exit_code == 0 and "p/a  40 rows, 40 vectors" in second.output and "p/b" not in second.output
    assert "the delta adds 1 rows and removes 1, to snapshot" in cli.invoke(app, ["status"]).output
    kit.write_jsonl(rows, kit.texts(10))
    stopped = cli.invoke(app, ["update"])
    assert stopped.exit_code == 2 and "more than max_removed 20%" in " ".join(stopped.output.split())
    assert cli.invoke(app, ["update", "--confirm"]).exit_code == 0
    assert "p/b  10 rows" in cli.invoke(app, ["update"]).output


def test_what_is_wrong_is_one_sentence(cli: CliRunner, rows: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unknown = cli.invoke(app, ["update", "--dataset", "c"])
    assert unknown.exit_code == 2 and "no pipeline has the datasets c" in unknown.output
    wrong = cli.invoke(app, ["update", "--only", "all"])
    assert wrong.exit_code == 2 and "only" in wrong.output and "Traceback" not in wrong.output
    monkeypatch.delenv("DAGSTER_HOME")
    homeless = cli.invoke(app, ["update"])
    assert homeless.exit_code == 2 and "DAGSTER_HOME is not set" in homeless.output
