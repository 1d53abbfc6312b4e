"""Faults in JSON Lines: a record is set aside, the others are kept."""

import io
from pathlib import Path
from typing import Any

import pytest

from embed_worker.lake.store import Store
from embed_worker.steps.raw import ingest
from embed_worker.steps.readers import base
from embed_worker.steps.readers.lines import Lines
from tests.kits import pipelines as kit
from tests.kits.bad_sources import GOOD, reasons, refused


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"text": "cut off', "malformed JSON"),
        (b'{"text": NaN}', "null text"),
        (b"plain words", "malformed JSON"),
        (b'{"text": "caf\xe9"}', "invalid UTF-8"),
        (b'{"text": "half a pair \\ud83d"}', "lone surrogate"),
        (b'["a", "list"]', "not a JSON object"),
        (b"17", "not a JSON object"),
        (b'{"text": null}', "null text"),
        (b'{"other": "no text key"}', "null text"),
        (b'{"text": ""}', "empty text"),
        (b'{"text": " \\n\\t "}', "blank text"),
        (b'{"text": "' + b"x" * 5_000_000 + b'"}', "text too long"),
    ],
)
def test_a_bad_json_line_is_set_aside(tmp_path: Path, store: Store, line: bytes, reason: str) -> None:
    source = tmp_path / "s.jsonl"
    source.write_bytes(GOOD + line + b"\n" + GOOD)
    assert reasons(store, source) == {reason: 1}


def test_a_json_file_cut_in_its_last_line_loses_only_that(tmp_path: Path, store: Store) -> None:
    source = tmp_path / "s.jsonl"
    source.write_bytes(GOOD * 3 + GOOD[:-8])
    assert reasons(store, source) == {"malformed JSON": 1}


def test_blank_lines_and_a_byte_order_mark_are_no_faults(tmp_path: Path, store: Store) -> None:
    source = tmp_path / "s.jsonl"
    source.write_bytes(b"\xef\xbb\xbf" + GOOD + b"\n  \r\n" + GOOD.replace(b"\n", b"\r\n"))
    manifest = ingest(store, kit.dataset(str(source))).manifest
    assert (manifest.rows, manifest.rejects) == (2, None)


@pytest.mark.parametrize(("name", "rest"), [("s.jsonl", b'"}\n'), ("s.csv", b"\n")])
def test_an_overlong_line_is_skipped_without_being_held(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch, name: str, rest: bytes
) -> None:
    monkeypatch.setattr(base, "MAX_LINE", 1000)
    source = tmp_path / name
    head = b"" if name.endswith("jsonl") else b"key,text\n"
    good = GOOD if name.endswith("jsonl") else b"a,good one\n"
    # The tail of the long line would be a good record of its own.
    source.write_bytes(head + good + b'{"text": "' + b"y" * 5000 + rest + good)
    assert reasons(store, source) == {"line too long": 1}
    monkeypatch.setattr(base, "BUFFER", 512)
    assert _longest_read(source) <= 1000


def _longest_read(source: Path) -> int:
    with source.open("rb") as file:
        stream = _Measured(file)
        list(Lines(stream, b"\n"))  # type: ignore[arg-type]
        return stream.longest


class _Measured(io.RawIOBase):
    """What a line of a buffered reader asks for is at most a buffer, whatever the line."""

    def __init__(self, file: Any) -> None:
        self.file, self.longest = file, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self.longest = max(self.longest, len(buffer))
        return int(self.file.readinto(buffer))


def test_a_column_that_no_json_record_has(source: Path, store: Store, lake: Path) -> None:
    refused(store, lake, source, "no column 'body'; it has key, n, text", text="{text} {body}")
    refused(store, lake, source, "no column 'uid'", id="{uid}")
    refused(store, lake, source, "'kind' that `where` names", where={"kind": "x"})
    refused(store, lake, source, "no column 'text.__class__'", text="{text.__class__}")


def test_json_columns_that_change_their_type_are_promoted(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("embed_worker.steps.writers.BATCH_ROWS", 2)
    monkeypatch.setattr("embed_worker.steps.parse.PART_BYTES", 1)
    rows = [
        {"text": "a", "n": 1, "f": 1.5, "s": "x", "b": True, "o": {"k": 1}, "e": None},
        {"text": "b", "n": 2, "f": 2, "s": "y", "b": False, "o": [1], "e": None},
        {"text": "c", "n": "three", "f": "no", "s": 4, "b": 1, "o": "words", "e": "later", "new": {"deep": 1}},
        {"text": "d", "n": 2**70, "f": 3, "s": None, "b": None, "o": None, "e": 5, "new": 2, "text2": "t"},
    ]
    manifest = ingest(store, kit.dataset(str(kit.write_jsonl(tmp_path / "s.jsonl", rows)))).manifest
    assert (manifest.rows, manifest.nulled) == (4, {})
    found = kit.raw_rows(store, manifest)
    assert [row["n"] for row in found] == ["1", "2", "three", str(2**70)]
    assert [row["f"] for row in found] == ["1.5", "2", "no", "3"]
    assert [row["s"] for row in found] == ["x", "y", "4", None]
    assert [row["b"] for row in found] == ["true", "false", "1", None]
    assert [row["o"] for row in found] == ['{"k":1}', "[1]", "words", None]
    assert [row["e"] for row in found] == [None, None, "later", "5"]
    assert [row["new"] for row in found] == [None, None, '{"deep":1}', "2"]
    assert [row["text2"] for row in found] == [None, None, None, "t"]


def test_deeply_nested_json_does_not_stop_the_ingest(tmp_path: Path, store: Store) -> None:
    deep: Any = 1
    for _ in range(400):
        deep = [deep]
    manifest = ingest(
        store, kit.dataset(str(kit.write_jsonl(tmp_path / "s.jsonl", [{"text": "a", "x": deep}])))
    ).manifest
    assert manifest.rows == 1
    assert manifest.nulled == {"x": 1}
