"""`status --due`: what an update will find to do, from listings and the lake alone."""

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from embed_assets.cli.app import app
from embed_assets.estimate.costs import JobCost, write_cost
from embed_assets.monitor.states import State
from embed_assets.upkeep.due import Due, SourceChange, change_of, due_of
from embed_assets.upkeep.status import pipeline_status
from embed_worker.steps.raw import ingest
from tests.kits import pipelines as kit
from tests.kits.pipelines import Prepared


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Three files of ten rows each, an hour old."""
    folder = tmp_path / "reviews"
    folder.mkdir()
    for at in range(3):
        kit.settle(kit.write_jsonl(folder / f"{at}.jsonl", kit.texts(10, 10 * at)))
    return folder


@pytest.fixture
def made(lake: Path, files: Path) -> Prepared:
    """One of three shards committed."""
    prepared = Prepared(lake, f"{files}/*.jsonl", id="{key}")
    prepared.embed(0)
    return prepared


def due(made: Prepared, *costs: JobCost) -> Due:
    [status] = pipeline_status(made.store, made.pipeline)
    return due_of(made.resource, made.pipeline, status, costs)


def change(made: Prepared) -> SourceChange:
    return change_of(made.resource, made.dataset)


def cost(made: Prepared, usd: float | None, **changes: object) -> JobCost:
    fields = {
        "pipeline": "p", "dataset": "d", "partition": "d-00000", "spec_id": made.pipeline.embedding.spec_id, "job": "1",
        "rows": made.strides.strides[0].rows, "committed": True, "usd": usd, "on_demand_usd": None,
    }  # fmt: skip
    return JobCost.model_validate({**fields, **changes})


def test_what_was_read_is_not_due(made: Prepared) -> None:
    assert change(made) == SourceChange(files=3)
    found = due(made)
    waiting = sum(made.strides.strides[stride].rows for stride in (1, 2))
    assert (found.partitions, found.due, found.rows, found.usd) == (3, 2, waiting, None)
    assert found.tokens is not None and found.tokens > 0
    made.embed(1)
    made.embed(2)
    assert (due(made).due, due(made).rows, due(made).tokens) == (0, 0, 0)


def test_rows_of_a_delta_that_is_not_made_are_not_counted(made: Prepared) -> None:
    [status] = pipeline_status(made.store, made.pipeline)
    status.partitions["d-delta"] = State.WAITING
    assert due_of(made.resource, made.pipeline, status, []).rows is None


def test_each_change_of_a_source_is_told_from_its_listing(made: Prepared, files: Path) -> None:
    with (files / "1.jsonl").open("ab") as file:
        file.write(b'{"key": "new", "text": "of today"}\n')
    kit.write_jsonl(files / "3.jsonl", kit.texts(5, 30))
    (files / "0.jsonl").unlink()
    size = sum((files / f"{at}.jsonl").stat().st_size for at in (1, 3))
    assert change(made) == SourceChange(files=3, to_read=2, bytes_to_read=size, gone=1)


def test_files_that_were_touched_or_moved_are_known_once_they_were_read(made: Prepared, files: Path) -> None:
    (files / "2.jsonl").rename(files / "4.jsonl")
    (files / "1.jsonl").touch()
    kit.settle(files / "1.jsonl")
    moved = change(made)
    assert (moved.to_read, moved.gone) == (2, 1)
    assert ingest(made.store, made.dataset).manifest.snapshot == made.raw.snapshot
    assert change(made) == SourceChange(files=3)


def test_a_source_that_cannot_be_listed_says_so(made: Prepared, files: Path) -> None:
    for path in files.iterdir():
        path.unlink()
    assert f"dataset d: {files}/*.jsonl" in change(made).fault


def test_the_price_is_what_jobs_of_this_spec_have_cost_a_row(made: Prepared) -> None:
    rows = made.strides.strides[0].rows
    other = cost(made, 50.0, spec_id="another-spec", job="2")
    lost, unknown = cost(made, 9.0, committed=False, job="3"), cost(made, None, job="4")
    found = due(made, cost(made, 0.5 * rows), other, lost, unknown)
    assert found.rows is not None and found.usd == pytest.approx(0.5 * found.rows) and found.jobs_measured == 1


def test_the_command_tells_it(made: Prepared, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(yaml.safe_dump(made.pipeline.model_dump(mode="json")))
    monkeypatch.setenv("EMBED_PIPELINES", str(path))
    monkeypatch.setenv("EMBED_LAKE", made.store.root)
    write_cost(made.store, cost(made, 2.0))
    kit.write_jsonl(files / "3.jsonl", kit.texts(5, 30))
    told = CliRunner().invoke(app, ["status", "--due"])
    assert told.exit_code == 0 and "source: 1 of 4 files to read, 0.0 MB" in told.output
    assert (
        "due: 2 of 3 partitions, at most " in told.output
        and "(a row as measured over committed jobs: 1)" in told.output
    )
    [found] = json.loads(CliRunner().invoke(app, ["status", "--due", "--json"]).output)
    assert found["due"]["source"]["to_read"] == 1 and found["due"]["due"] == 2
    [plain] = json.loads(CliRunner().invoke(app, ["status", "--json"]).output)
    assert "due" not in plain
