"""The checks of strides: each finds its damage and says so."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from embed_assets.checks.outcome import CheckOutcome, run_checks
from embed_assets.checks.strides import ROW_CHECKS, RowsView
from embed_worker.lake import layout
from tests.kits import pipelines as kit
from tests.kits.checked import column


def rows_view(ready: kit.Prepared) -> RowsView:
    folder = layout.strides_folder("d", ready.partitioning)
    return RowsView(ready.store, folder, ready.strides.strides[1].files, ready.expected(1))


def rewrite(ready: kit.Prepared, view: RowsView, change: Callable[[pa.Table], pa.Table]) -> None:
    path = Path(ready.store.path(f"{view.folder}/{view.files[0].path}"))
    table = change(pq.read_table(path))
    path.unlink()  # a link to it may lie elsewhere
    pq.write_table(table, path)


def run_rows(ready: kit.Prepared, view: RowsView) -> dict[str, CheckOutcome]:
    fresh = RowsView(view.store, view.folder, view.files, view.expected)
    return run_checks(ROW_CHECKS, ROW_CHECKS, fresh)


def test_row_checks_pass_on_what_was_written(ready: kit.Prepared) -> None:
    outcomes = run_rows(ready, rows_view(ready))
    assert {name: outcome.passed for name, outcome in outcomes.items()} == dict.fromkeys(ROW_CHECKS, True)
    assert all(outcome.description for outcome in outcomes.values())


ROW_DAMAGE: dict[str, tuple[str, Callable[[pa.Table], pa.Table], str]] = {
    "a row is gone": ("exact_cover", lambda t: t.slice(1), "1 rows missing"),
    "a row is there twice": ("exact_cover", lambda t: pa.concat_tables([t.slice(0, 1), t]), "1 doubled"),
    "a row is another": (
        "exact_cover",
        lambda t: column(t, "row_id", pa.array([9999, *t.column("row_id").to_pylist()[1:]])),
        "1 rows missing, 1 foreign",
    ),
    "rows changed places": ("exact_cover", lambda t: t.take(list(reversed(range(t.num_rows)))), "not in ascending"),
    "right count, wrong rows": (
        "exact_cover",
        lambda t: pa.concat_tables([t.slice(0, 1), t.slice(0, t.num_rows - 1)]),
        "1 rows missing, 0 foreign, 1 doubled",
    ),
    "no text column": ("schema", lambda t: t.drop_columns(["text"]), "no column text"),
    "row_id is no integer": (
        "schema",
        lambda t: column(t, "row_id", t.column("row_id").cast(pa.string())),
        "not int64",
    ),
    "no rows at all": ("non_empty", lambda t: t.slice(0, 0), "0 rows"),
    "one text changed": (
        "files_intact",
        lambda t: column(t, "text", pa.array(["changed", *t.column("text").to_pylist()[1:]])),
        "part-00000",
    ),
}


@pytest.mark.parametrize("damage", ROW_DAMAGE)
def test_row_checks_fail_on_damage(ready: kit.Prepared, damage: str) -> None:
    name, change, text = ROW_DAMAGE[damage]
    view = rows_view(ready)
    rewrite(ready, view, change)
    outcomes = run_rows(ready, view)
    assert not outcomes[name].passed
    assert text in outcomes[name].description
    assert not outcomes["files_intact"].passed, "whatever the change, the digest shows it"


@pytest.mark.parametrize("name", ROW_CHECKS)
@pytest.mark.parametrize("content", [None, b"", b"no parquet"])
def test_row_checks_fail_where_they_cannot_read(ready: kit.Prepared, name: str, content: bytes | None) -> None:
    view = rows_view(ready)
    path = Path(ready.store.path(f"{view.folder}/{view.files[0].path}"))
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    outcome = run_rows(ready, view)[name]
    assert not outcome.passed
    assert outcome.description


def test_an_empty_stride_is_sound_only_where_there_are_fewer_rows_than_strides(tmp_path: Path, lake: Path) -> None:
    ready = kit.Prepared(lake, str(kit.write_jsonl(tmp_path / "s.jsonl", kit.texts(2))), strides=3)
    folder = layout.strides_folder("d", ready.partitioning)
    view = RowsView(ready.store, folder, ready.strides.strides[2].files, ready.expected(2))
    assert run_rows(ready, view)["non_empty"].passed
    other = replace(view, files=ready.strides.strides[1].files)
    assert not run_rows(ready, other)["exact_cover"].passed
    missing = replace(view, expected=range(1, 2))
    assert not run_rows(ready, missing)["non_empty"].passed
