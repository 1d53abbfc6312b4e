"""The checks of raw rows: each finds its damage and says so."""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from embed_assets.checks.outcome import CheckOutcome, run_checks
from embed_assets.checks.rows import ROW_CHECKS, RowsView
from embed_worker.lake.snapshots import RawManifest
from tests.kits import pipelines as kit
from tests.kits.checked import ROWS, column


def rewrite(ready: kit.Prepared, change: Callable[[pa.Table], pa.Table]) -> None:
    path = Path(ready.store.path(f"{ready.raw.folder}/{ready.raw.parts[0].file.path}"))
    table = change(pq.read_table(path))
    path.unlink()  # a link to it may lie elsewhere
    pq.write_table(table, path)


def run_rows(ready: kit.Prepared, raw: RawManifest | None = None) -> dict[str, CheckOutcome]:
    return run_checks(ROW_CHECKS, ROW_CHECKS, RowsView(ready.store, raw or ready.raw))


def test_row_checks_pass_on_what_was_written(ready: kit.Prepared) -> None:
    outcomes = run_rows(ready)
    assert {name: outcome.passed for name, outcome in outcomes.items()} == dict.fromkeys(ROW_CHECKS, True)
    assert all(outcome.description for outcome in outcomes.values())


ROW_DAMAGE: dict[str, tuple[str, Callable[[pa.Table], pa.Table], str]] = {
    "a row is gone": ("exact_cover", lambda t: t.slice(1), "1 rows missing"),
    "a row is there twice": ("exact_cover", lambda t: pa.concat_tables([t.slice(0, 1), t]), "1 doubled"),
    "a row is another": (
        "exact_cover",
        lambda t: column(t, "_record", pa.array([9999, *t.column("_record").to_pylist()[1:]])),
        "1 rows missing, 1 foreign",
    ),
    "rows changed places": ("exact_cover", lambda t: t.take(list(reversed(range(t.num_rows)))), "not in ascending"),
    "right count, wrong rows": (
        "exact_cover",
        lambda t: pa.concat_tables([t.slice(0, 1), t.slice(0, t.num_rows - 1)]),
        "1 rows missing, 0 foreign, 1 doubled",
    ),
    "no text column": ("schema", lambda t: t.drop_columns(["text"]), "no column text"),
    "keys are no keys": (
        "schema",
        lambda t: column(t, "text_key", t.column("text_key").cast(pa.binary())),
        "not fixed_size_binary[16]",
    ),
    "no rows at all": ("non_empty", lambda t: t.slice(0, 0), "0 rows"),
    "one text changed": (
        "files_intact",
        lambda t: column(t, "text", pa.array(["changed", *t.column("text").to_pylist()[1:]])),
        "parts/",
    ),
}


@pytest.mark.parametrize("damage", ROW_DAMAGE)
def test_row_checks_fail_on_damage(ready: kit.Prepared, damage: str) -> None:
    name, change, text = ROW_DAMAGE[damage]
    rewrite(ready, change)
    outcomes = run_rows(ready)
    assert not outcomes[name].passed
    assert text in outcomes[name].description
    assert not outcomes["files_intact"].passed, "whatever the change, the digest shows it"
    assert RowsView(ready.store, ready.raw).broken == {ready.raw.parts[0].part_id}


def test_parts_may_differ_in_the_other_columns_alone(
    tmp_path: Path, lake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("embed_worker.steps.writers.BATCH_ROWS", 4)
    monkeypatch.setattr("embed_worker.steps.parse.PART_BYTES", 1)
    monkeypatch.setattr("embed_worker.steps.fast.block.BLOCK_BYTES", 50)
    ready = kit.Prepared(lake, str(kit.write_jsonl(tmp_path / "s.jsonl", ROWS)), id="{key}")
    assert len(ready.raw.parts) > 1
    assert run_rows(ready)["schema"].passed
    rewrite(ready, lambda t: column(t, "n", t.column("n").cast(pa.float64())))
    assert run_rows(ready)["schema"].passed
    rewrite(ready, lambda t: column(t, "id", t.column("id").cast(pa.large_string())))
    assert "id is large_string, not string" in run_rows(ready)["schema"].description


def test_parts_that_leave_a_gap_or_overlap_are_found(
    tmp_path: Path, lake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("embed_worker.steps.writers.BATCH_ROWS", 4)
    monkeypatch.setattr("embed_worker.steps.parse.PART_BYTES", 1)
    monkeypatch.setattr("embed_worker.steps.fast.block.BLOCK_BYTES", 50)
    ready = kit.Prepared(lake, str(kit.write_jsonl(tmp_path / "s.jsonl", ROWS)))
    first, second, *rest = ready.raw.parts
    for shift, said in ((1, "1 rows missing"), (-1, "1 doubled")):
        moved = [first, second.model_copy(update={"first_row": second.first_row + shift}), *rest]
        changed = ready.raw.model_copy(update={"parts": moved})
        assert said in run_rows(ready, changed)["exact_cover"].description


@pytest.mark.parametrize("name", ROW_CHECKS)
@pytest.mark.parametrize("content", [None, b"", b"no parquet"])
def test_row_checks_fail_where_they_cannot_read(ready: kit.Prepared, name: str, content: bytes | None) -> None:
    path = Path(ready.store.path(f"{ready.raw.folder}/{ready.raw.parts[0].file.path}"))
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    outcome = run_rows(ready)[name]
    assert not outcome.passed
    assert outcome.description
