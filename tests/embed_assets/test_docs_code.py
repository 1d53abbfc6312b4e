"""The Python code of docs/dagster.md runs as it stands."""

from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml

from embed_assets.spec import load_pipeline
from embed_assets.testing import hashed, materialize
from tests.kits.docs_code import PAGE, blocks

TICKETS = [{"id": f"T-{i}", "subject": "Refund", "body": f"Where is my money, number {i}?"} for i in range(5)]
SUPPORT = {
    "name": "support",
    "datasets": [
        {"name": "tickets", "source": "tickets.jsonl", "text": "{subject} {body}", "id": "{id}", "strides": 2,
         "where": {"subject": ["Refund"]}}
    ],
    "embedding": {"model": "embed-worker/hash", "pooling": "mean", "attention": "bidirectional"},
}  # fmt: skip


def run(heading: str, names: dict[str, Any] | None = None) -> dict[str, Any]:
    (code,) = blocks(heading)
    names = dict(names or {})
    exec(compile(code, f"{heading} of dagster.md", "exec"), names)  # noqa: S102
    return names


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user's folder, with a pipeline and its lake."""
    (tmp_path / "pipelines").mkdir()
    path = tmp_path / "pipelines/support.yaml"
    path.write_text(yaml.safe_dump(SUPPORT))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EMBED_LAKE", str(tmp_path / "lake"))


@pytest.fixture
def made(tmp_path: Path) -> None:
    pipeline = load_pipeline(Path("pipelines/support.yaml"))
    assert hashed(pipeline) == pipeline
    materialize(pipeline, TICKETS, folder=tmp_path)


def test_every_block_is_run() -> None:
    headings = (
        "The update job",
        "The Component",
        "Your own assets beside it",  # tests/kits/dg_neighbours.py puts it into a project
        "Reading vectors",
        "As the input of an asset",
        "Tests of your own",
        "Alerts on red checks",
        "Python API",
    )
    assert sum(len(blocks(heading)) for heading in headings) == PAGE.count("```python")


def test_a_schedule_and_a_locations_own_resources() -> None:
    assert run("The update job")["nightly"].job_name == "support__update"
    assert set(run("The Component")["defs"].resources) == {"lake", "compute"}


@pytest.mark.slow
@pytest.mark.usefixtures("made")
def test_reading_vectors() -> None:
    found = run("Reading vectors")
    assert sorted(found["first"]["id"]) == [ticket["id"] for ticket in TICKETS]
    assert found["matrix"].shape == (5, 32) and found["matrix"].dtype == "float32"


@pytest.mark.slow
@pytest.mark.usefixtures("made")
def test_as_the_input_of_an_asset() -> None:
    found = run("As the input of an asset")
    job = found["defs"].resolve_implicit_global_asset_job_def()

    def value(name: str, partition: str | None = None) -> Any:
        done = job.execute_in_process(asset_selection=[dg.AssetKey(name)], partition_key=partition)
        return done.output_for_node(name)

    assert value("tokens", "tickets-00001") > 10
    assert len(value("centroid", "tickets")) == 32
    assert value("windows") == {"tickets": 5}


@pytest.mark.slow
def test_tests_of_your_own() -> None:
    run("Tests of your own", run("As the input of an asset"))["test_tickets_are_embedded"]()


@pytest.mark.parametrize("heading", ["Alerts on red checks", "Python API"])
def test_definitions_load(heading: str) -> None:
    dg.Definitions.validate_loadable(run(heading)["defs"])
