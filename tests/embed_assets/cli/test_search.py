"""`embed-assets search`: what it takes, what it refuses before a model is loaded, and what it prints."""

import json

import pytest
from typer.testing import CliRunner

from embed_assets.cli import search as searching
from embed_assets.cli.app import app
from embed_assets.index.build import build_index
from embed_assets.spec.index import IndexSpec
from embed_assets.testing.compute import InProcessCompute
from tests.kits import pipelines as kit
from tests.kits.pipelines import Prepared

pytestmark = pytest.mark.slow


@pytest.fixture
def searched(cli: CliRunner, prepared: Prepared, monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    monkeypatch.setattr(searching, "compute_resource", lambda _: InProcessCompute())
    prepared.index(columns={"n": "int64"}, full_text=True)
    return cli


def hits(runner: CliRunner, *arguments: str) -> list[dict[str, object]]:
    found = runner.invoke(app, ["search", *arguments, "--json"])
    assert found.exit_code == 0, found.output
    made: list[dict[str, object]] = json.loads(found.output)
    return made


def test_a_query_gives_different_rows_with_their_columns(searched: CliRunner) -> None:
    text = kit.texts(20)[7]["text"]
    found = hits(searched, text, "-n", "3")
    assert len({hit["id"] for hit in found}) == 3
    assert found[0] | {"id": "7", "dataset": "d", "columns": {"n": 7}} == found[0]
    assert {hit["id"] for hit in hits(searched, text, "-n", "9", "--where", "n >= 4 AND n < 7")} == {"4", "5", "6"}
    assert found[0]["id"] not in {hit["id"] for hit in hits(searched, "--like", "7", "-n", "5")}
    assert hits(searched, "number 13", "--hybrid", "-n", "20")


def test_without_a_query_it_asks_and_goes_on_after_a_fault(searched: CliRunner) -> None:
    found = searched.invoke(app, ["search", "-n", "1"], input="text number 3,\n\n\x07\ntext number 4,\n")
    assert found.exit_code == 0, found.output
    assert "“text number 3,” in d" in found.output and "“text number 4,” in d" in found.output
    assert "has no words" in found.output and "\x07" not in found.output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["  "], "has no words"),
        (["a", "--where", "stars > 3"], "--where 'stars > 3': .*No field named stars.*The columns of d: n"),
        (["a", "-d", "nope"], "no dataset 'nope'; there are d"),
        (["--like", "nobody"], "d has no row 'nobody'"),
        (["a", "--like", "7"], "give one of them"),
    ],
)
def test_what_is_wrong_is_one_sentence(searched: CliRunner, arguments: list[str], said: str) -> None:
    import re

    found = searched.invoke(app, ["search", *arguments])
    assert found.exit_code == 2 and re.search(said, " ".join(found.output.split())), found.output


def test_without_a_table_it_says_what_to_do(cli: CliRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(searching, "compute_resource", lambda _: InProcessCompute())
    found = cli.invoke(app, ["search", "a"])
    assert found.exit_code == 2 and "materialize it first" in found.output


def test_control_characters_of_a_text_do_not_reach_the_terminal(
    searched: CliRunner, prepared: Prepared, tmp_path: object
) -> None:
    build_index(prepared.resource, prepared.set(), IndexSpec())
    found = searched.invoke(app, ["search", "text \x1b[31mred"])
    assert found.exit_code == 0 and "\x1b[31mred" not in found.output
