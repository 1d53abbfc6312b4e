"""The commands: exit codes, and messages that name what is wrong."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from embed_assets.cli.app import app
from embed_assets.settings import Settings
from tests.kits.pipelines import Prepared


def test_cli_exit_codes_and_messages(cli: CliRunner, prepared: Prepared, lake: Path, tmp_path: Path) -> None:
    assert cli.invoke(app, ["verify"]).exit_code == 0
    status = cli.invoke(app, ["status", "--json"])
    assert status.exit_code == 0 and json.loads(status.output)[0]["rows"] == 20
    assert "d-00002" in cli.invoke(app, ["status", "--partitions"]).output
    assert "2 committed, 1 waiting" in cli.invoke(app, ["status"]).output
    assert (
        "nothing removed yet" in cli.invoke(app, ["gc"]).output or "nothing to remove" in cli.invoke(app, ["gc"]).output
    )
    next((lake / prepared.job(0).shard.folder).glob("part-*.parquet")).unlink()
    damaged = cli.invoke(app, ["verify"])
    assert damaged.exit_code == 1 and "part-00000.parquet is missing" in damaged.output
    for flags in ([], ["--json"]):
        empty = cli.invoke(app, ["verify", str(tmp_path / "empty"), *flags])
        assert empty.exit_code == 2 and "nothing is committed" in empty.output and "sound" not in empty.output


def test_cli_names_a_wrong_setting_and_a_wrong_pipeline(
    cli: CliRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMBED_COMPUTE", "mainframe")
    wrong = cli.invoke(app, ["status"])
    assert wrong.exit_code == 2 and "EMBED_COMPUTE" in wrong.output
    monkeypatch.setenv("EMBED_COMPUTE", "local")
    monkeypatch.setenv("EMBED_PIPELINES", str(tmp_path / "none.yaml"))
    missing = cli.invoke(app, ["status"])
    assert missing.exit_code == 2 and "none.yaml" in missing.output


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("EMBED_SKY_DISK_SIZE", "abc", "EMBED_SKY_DISK_SIZE: "),
        ("EMBED_SKY_ENVS", "A=1", 'EMBED_SKY_ENVS: write it as JSON, such as {"NAME": "value"}'),
        ("EMBED_SKY_TASK_FILE", "/none.yaml", "task file /none.yaml cannot be read"),
    ],
)
def test_cli_names_the_variable_that_was_set_wrongly(
    cli: CliRunner, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, said: str
) -> None:
    monkeypatch.setenv(variable, value)
    wrong = cli.invoke(app, ["plan"])
    assert wrong.exit_code == 2 and said in wrong.output


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--tokens-per-row", "-3"], "--tokens-per-row: "),
        (["--accelerators", "L4:x"], "write it as L4 or L4:2"),
        (["--pipeline", "none"], "no pipeline 'none'; there are "),
    ],
)
def test_cli_names_the_option_that_was_set_wrongly(cli: CliRunner, options: list[str], said: str) -> None:
    wrong = cli.invoke(app, ["plan", *options])
    assert wrong.exit_code == 2 and said in wrong.output


def test_an_empty_variable_is_none_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty EMBED_LAKE would be the folder one stands in."""
    for name in ("EMBED_LAKE", "EMBED_PIPELINES"):
        monkeypatch.setenv(name, "")
    assert (Settings().lake, Settings().pipelines) == (".demo/lake", "pipelines/demo.yaml")


@pytest.mark.parametrize("query", ["", " \t", "\u200b\u2060"])
def test_a_query_without_words_asks_for_no_model(cli: CliRunner, query: str) -> None:
    """There is not even a table here."""
    wrong = cli.invoke(app, ["search", query])
    assert wrong.exit_code == 2 and "has no words; say what to look for" in wrong.output


def test_what_a_lake_is_called_is_only_shown(cli: CliRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    odd = "[red]a[/red]\x1b[2J\x9b\u202e"
    monkeypatch.setenv("EMBED_LAKE", str(tmp_path / odd))
    for command in (["status"], ["gc"], ["verify"], ["search", "x"]):
        said = cli.invoke(app, command).output
        assert r"[red]a[/red]\x1b[2J\x9b\u202e" in said and not set(said) & set("\x1b\x9b\u202e"), command
