"""Checks of raw_reviews that look at the source: each can fail, and says why."""

import base64
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from embed_assets.checks.outcome import CheckOutcome, run_checks
from embed_assets.checks.source import RAW_CHECKS, RawView
from embed_worker.lake.snapshots import ColumnFigures, RawManifest
from embed_worker.lake.store import Store
from embed_worker.steps.raw import ingest
from embed_worker.steps.rows import OWN
from tests.kits import pipelines as kit

NEW = ["all_records_accounted", "rejects_within_limit", "texts_plausible", "columns_complete"]


def ingested(
    folder: Path, records: list[dict[str, Any]], tail: bytes = b"", **changes: Any
) -> tuple[Store, RawManifest]:
    source = kit.write_jsonl(folder / "s.jsonl", records)
    with source.open("ab") as file:
        file.write(tail)
    store = Store(str(folder / "lake"))
    return store, ingest(store, kit.dataset(str(source), **changes)).manifest


def outcomes(store: Store, raw: RawManifest, max_rejects: float = 1.0) -> dict[str, CheckOutcome]:
    view = RawView(store, raw, max_rejects=max_rejects)
    return run_checks(RAW_CHECKS, RAW_CHECKS, view)


def test_a_sound_snapshot_passes_all(tmp_path: Path) -> None:
    tail = b'\nno JSON\n{"key": "x", "text": "t", "late": NaN}\n'
    store, raw = ingested(
        tmp_path, kit.texts(30), tail, where={"n": [*range(20), 99]}, id="{key}", text="{text} {late}"
    )
    assert all(outcome.passed for outcome in outcomes(store, raw).values())
    accounted = outcomes(store, raw)["all_records_accounted"]
    assert accounted.metadata == {
        "records": 32, "rows": 20, "filtered": 11, "outside_range": 0, "rejects": 1, "blank lines": 1,
    }  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [
        {"filtered": 1},
        {"outside": 3},
        {"accounts": "total"},
        {"accounts": "records"},
    ],
)
def test_a_record_that_is_nowhere_is_seen(tmp_path: Path, change: dict[str, Any]) -> None:
    store, raw = ingested(tmp_path, kit.texts(30))
    if "accounts" in change:
        (account,) = raw.accounts
        changed = account.model_copy(update={change["accounts"]: getattr(account, change["accounts"]) + 1})
        change = {"accounts": [changed]}
    found = outcomes(store, raw.model_copy(update=change))
    assert [name for name in NEW if not found[name].passed] == ["all_records_accounted"]


def test_more_rejects_than_the_spec_allows(tmp_path: Path) -> None:
    store, raw = ingested(tmp_path, kit.texts(30), b'{"text": "\x1b[31m"\n')
    found = outcomes(store, raw, max_rejects=0.01)["rejects_within_limit"]
    assert not found.passed
    assert "1 of 31 records (3.23%)" in found.description
    (shown,) = found.metadata["first"]
    assert "s.jsonl line 31: malformed JSON" in shown and "\x1b" not in shown


@pytest.mark.parametrize(
    ("text", "said"),
    [("the same text", "one text"), ("word\\n%d is", "literal"), ("w%d", "one word"), ("?! %%", "no letter")],
)
def test_texts_that_are_no_texts(tmp_path: Path, text: str, said: str) -> None:
    rows = [{"text": text.replace("%d", str(i))} for i in range(20)]
    found = outcomes(*ingested(tmp_path, rows))["texts_plausible"]
    assert not found.passed
    assert said in found.description
    if said == "one text":
        assert found.metadata["most_repeated"] == {"the same text": 20}


def test_scripts_without_blanks_are_no_single_words(tmp_path: Path) -> None:
    rows = [{"text": f"これは良い本です{i}。とても面白い"} for i in range(20)]
    assert outcomes(*ingested(tmp_path, rows))["texts_plausible"].passed


def test_a_part_that_the_union_does_not_hold(tmp_path: Path) -> None:
    store, raw = ingested(tmp_path, kit.texts(30))
    other = pa.schema([*((name, kind) for name, kind in OWN.items()), ("n", pa.bool_()), ("key", pa.string())])
    changed = raw.model_copy(update={"arrow_schema": base64.b64encode(other.serialize()).decode()})
    found = outcomes(store, changed)["columns_complete"]
    assert not found.passed and "n is int64, which is no part of bool" in str(found.metadata)


def test_a_value_that_is_nowhere_is_seen(tmp_path: Path) -> None:
    store, raw = ingested(tmp_path, kit.texts(30))
    columns = {**raw.columns, "n": ColumnFigures(type="int64", values=31, nulled=0)}
    found = outcomes(store, raw.model_copy(update={"columns": columns}))["columns_complete"]
    assert (found.passed, found.description) == (False, "n had 31 values, 30 are kept and 0 nulled")
