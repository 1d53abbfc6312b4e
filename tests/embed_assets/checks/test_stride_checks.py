"""The checks of strides: each finds its damage and says so."""

from dataclasses import replace
from pathlib import Path

import pytest

from embed_assets.checks.outcome import CheckOutcome, run_checks
from embed_assets.checks.strides import STRIDE_CHECKS, StrideView
from embed_worker.lake.identity import RowsDigest
from tests.kits import pipelines as kit


def stride_view(ready: kit.Prepared, stride: int = 1) -> StrideView:
    whole = RowsDigest.parse(ready.strides.rows, ready.strides.rows_digest)
    return StrideView(ready.store, ready.strides, stride, ready.spans[stride], whole)


def run_stride(view: StrideView) -> dict[str, CheckOutcome]:
    return run_checks(STRIDE_CHECKS, STRIDE_CHECKS, view)


def test_they_pass_on_what_was_written(ready: kit.Prepared) -> None:
    outcomes = run_stride(stride_view(ready))
    assert {name: outcome.passed for name, outcome in outcomes.items()} == dict.fromkeys(STRIDE_CHECKS, True)
    assert "each of" in outcomes["exact_cover"].description


@pytest.mark.parametrize("damage", ["missing", "cut", "a byte", "of another stride"])
def test_they_fail_on_damage(ready: kit.Prepared, damage: str) -> None:
    view = stride_view(ready)
    if damage == "of another stride":
        view = replace(view, spans=ready.spans[0])
    else:
        path, span = Path(ready.store.path(view.spans[0].path)), view.spans[0]
        data = bytearray(path.read_bytes())
        path.unlink()
        if damage == "cut":
            path.write_bytes(data[: span.offset + 3])
        elif damage == "a byte":
            data[span.offset + span.length // 2] ^= 1
            path.write_bytes(data)
    outcomes = run_stride(view)
    assert not outcomes["exact_cover"].passed and not outcomes["files_intact"].passed
    assert outcomes["exact_cover"].description


def test_a_cut_that_is_not_of_all_rows_fails(ready: kit.Prepared) -> None:
    view = replace(stride_view(ready), snapshot=RowsDigest(ready.strides.rows, 1))
    outcomes = run_stride(view)
    assert not outcomes["exact_cover"].passed and "strides together hold" in outcomes["exact_cover"].description
    assert outcomes["files_intact"].passed


def test_an_empty_stride_is_sound_only_where_rows_are_few(tmp_path: Path, lake: Path) -> None:
    ready = kit.Prepared(lake, str(kit.write_jsonl(tmp_path / "s.jsonl", kit.texts(2))), strides=3)
    assert run_stride(stride_view(ready, 2))["non_empty"].passed
    many = stride_view(ready, 2).cut.model_copy(update={"rows": 3000})
    assert not run_stride(replace(stride_view(ready, 2), cut=many))["non_empty"].passed
