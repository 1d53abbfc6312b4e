"""However a file is cut into ranges, the snapshot's rows, rejects and figures are the same."""

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from embed_worker.lake.store import Store
from embed_worker.steps import parse, ranges, twins, writers
from embed_worker.steps.raw import ingest
from embed_worker.steps.readers import base
from tests.kits import pipelines as kit

steady = settings(
    derandomize=True, deadline=None, database=None, max_examples=60, suppress_health_check=list(HealthCheck)
)
RECORDS = st.fixed_dictionaries(
    {"key": st.sampled_from("abcdefgh"), "text": st.none() | st.text(st.characters(codec="utf-8"), max_size=9)},
    optional={"n": st.integers(0, 3) | st.floats(allow_nan=False), "more": st.lists(st.booleans(), max_size=2)},
)
LINES = st.lists(
    RECORDS.map(lambda record: json.dumps(record, ensure_ascii=False).encode())
    | st.sampled_from([b"", b"  ", b"no JSON", b"[1]", b'{"text": "\xff"}', b'{"text": "a\\r\\n"}']),
    min_size=1,
    max_size=12,
)


def told(folder: Path, source: Path, **changes: Any) -> Any:
    store = Store(str(folder))
    raw = ingest(store, kit.dataset(str(source), **changes)).manifest
    rows = kit.raw_rows(store, raw)
    ours = ("rows", "records", "filtered", "outside", "rejects_by_reason", "accounts", "columns", "matched", "digest",
            "text_bytes", "arrow_schema")  # fmt: skip
    figures = {name: getattr(raw, name) for name in ours if name != "accounts" or "rows" not in changes}
    return repr(rows), repr(kit.rejects(store, raw)), figures, raw


@given(
    lines=LINES,
    ends=st.lists(st.sampled_from([b"\n", b"\r\n"]), min_size=12, max_size=12),
    last=st.booleans(),
    mark=st.booleans(),
    size=st.integers(4, 90),
    part=st.sampled_from([1, 1 << 30]),
    changes=st.sampled_from(
        [{}, {"id": "{key}"}, {"where": {"n": [0, 1]}}, {"rows": {"start": 2, "end": 5}}, {"rows": {"start": 1}}]
    ),
)
@steady
def test_json_lines(
    lines: list[bytes], ends: list[bytes], last: bool, mark: bool, size: int, part: int, changes: dict[str, Any]
) -> None:
    data = b"".join(line + end for line, end in zip([b'{"key": "z", "text": "first"}', *lines], ends * 2, strict=False))
    data = data if last else data.rstrip(b"\r\n")
    changes = {"where": {}, **changes}
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        folder = Path(name)
        source = folder / "s.jsonl"
        source.write_bytes((b"\xef\xbb\xbf" if mark else b"") + data)
        try:
            *whole, _ = told(folder / "whole", source, **changes)
        except ValueError as error:
            whole = [str(error).partition("; all are in")[0]]
        patch.setattr(ranges, "RANGE_BYTES", size)
        patch.setattr(writers, "BATCH_ROWS", 2)
        patch.setattr(parse, "PART_BYTES", part)
        patch.setattr(twins, "BUCKET_ROWS", 2)
        try:
            *cut, raw = told(folder / "cut", source, **changes)
            assert "rows" in changes or len(raw.parts) >= len(data) // size
        except ValueError as error:
            cut = [str(error).partition("; all are in")[0]]
    assert cut == whole


def test_a_line_too_long_to_be_a_record_is_one_fault_wherever_it_is_cut(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base, "MAX_LINE", 300)
    monkeypatch.setattr(ranges, "RANGE_BYTES", 100)
    source = tmp_path / "s.jsonl"
    good = [json.dumps({"text": f"good {i}"}).encode() for i in range(4)]
    long = json.dumps({"text": "x" * 200_000}).encode()
    source.write_bytes(b"\n".join([*good[:2], long, *good[2:]]) + b"\n")
    made = ingest(store, kit.dataset(str(source))).manifest
    assert made.rejects_by_reason == {"line too long": 1}
    assert [row["id"] for row in kit.raw_rows(store, made)] == ["0", "1", "3", "4"]
    assert [(row["record"], row["line"]) for row in kit.rejects(store, made)] == [(2, 3)]
    assert made.accounts[0].total == made.accounts[0].accounted == 5
