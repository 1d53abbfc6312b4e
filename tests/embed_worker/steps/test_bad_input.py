"""Every fault of a source: single records go to rejects with a count, the rest stops with one clear sentence."""

import bz2
import gzip
import io
import json
import lzma
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from embed_worker.lake.errors import StoreUnavailable
from embed_worker.lake.store import Store
from embed_worker.steps import records as records_module
from embed_worker.steps.errors import SourceError
from embed_worker.steps.raw import ingest
from embed_worker.steps.source import SourceFile
from tests.kits import pipelines as kit

GOOD = b'{"key": "a", "text": "good one"}\n'


def reasons(store: Store, source: Path, **changes: Any) -> dict[str, int]:
    """Reasons by count; also proves that rejects.parquet says the same, and that good rows are all there."""
    manifest = ingest(store, kit.dataset(str(source), **changes)).manifest
    listed = [row["reason"] for row in kit.rejects(store, manifest)]
    assert {reason: listed.count(reason) for reason in listed} == manifest.rejects_by_reason
    assert manifest.records == manifest.rows + len(listed)
    rows = kit.raw_rows(store, manifest, ["row_id", "text"])
    assert [row["row_id"] for row in rows] == list(range(manifest.rows))
    assert all(row["text"].strip() for row in rows)
    return manifest.rejects_by_reason


def refused(store: Store, lake: Path, source: Any, match: str, **changes: Any) -> str:
    """The ingest stops with one sentence, and readers see nothing."""
    with pytest.raises(SourceError, match=match) as caught:
        ingest(store, kit.dataset(source if isinstance(source, list) else str(source), **changes))
    assert kit.manifests(lake) == []
    message = str(caught.value)
    assert "\n" not in message
    message.encode()
    return message


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"text": "cut off', "malformed JSON"),
        (b'{"text": NaN}', "malformed JSON"),
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
    monkeypatch.setattr(records_module, "MAX_LINE", 1000)
    source = tmp_path / name
    head = b"" if name.endswith("jsonl") else b"key,text\n"
    good = GOOD if name.endswith("jsonl") else b"a,good one\n"
    # The tail of the long line would be a good record of its own.
    source.write_bytes(head + good + b'{"text": "' + b"y" * 5000 + rest + good)
    assert reasons(store, source) == {"line too long": 1}
    longest = _longest_read(source, name)
    assert longest <= 1000


def _longest_read(source: Path, name: str) -> int:
    with source.open("rb") as file:
        if name.endswith("jsonl"):
            stream = _Measured(file)
            list(records_module._jsonl(stream))  # type: ignore[arg-type]
            return stream.longest
        lines = records_module._Lines(io.TextIOWrapper(file, newline=""))
        longest = 0
        while True:
            try:
                longest = max(longest, len(next(lines)))
            except records_module._LineTooLong:
                continue
            except StopIteration:
                return longest


class _Measured:
    def __init__(self, file: Any) -> None:
        self.file, self.longest = file, 0

    def readline(self, size: int) -> bytes:
        line: bytes = self.file.readline(size)
        self.longest = max(self.longest, len(line))
        return line


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (b"a,one,too many", "wrong number of fields"),
        (b"only", "wrong number of fields"),
        (b"a,caf\xe9", "invalid UTF-8"),
        (b"a,", "empty text"),
        (b"a,   ", "blank text"),
        (b"a," + b"z" * 5_000_000, "text too long"),
    ],
)
def test_a_bad_csv_row_is_set_aside(tmp_path: Path, store: Store, row: bytes, reason: str) -> None:
    source = tmp_path / "s.csv"
    source.write_bytes(b"key,text\na,good\n" + row + b"\nb,better\n")
    assert reasons(store, source) == {reason: 1}


def test_a_quote_that_is_never_closed_does_not_swallow_the_rest(tmp_path: Path, store: Store, lake: Path) -> None:
    source = tmp_path / "s.csv"
    source.write_bytes(b'key,text\na,good\nb,"opened\nc,lost\nd,lost\n')
    refused(store, lake, source, "never closed")


def test_quoted_newlines_are_no_fault(tmp_path: Path, store: Store) -> None:
    source = tmp_path / "s.csv"
    source.write_bytes(b'key,text\r\na,"two\r\nlines, ""quoted"""\r\nb,"last, no newline"')
    manifest = ingest(store, kit.dataset(str(source))).manifest
    assert [row["text"] for row in kit.raw_rows(store, manifest)] == ['two\r\nlines, "quoted"', "last, no newline"]


@pytest.mark.parametrize(
    ("header", "match"),
    [
        (b"key,body\n", "no column 'text'; it has body, key"),
        (b"text,text\n", "column 'text' is there twice"),
        (b"k\xe9y,text\n", "not UTF-8"),
    ],
)
def test_a_bad_csv_header_stops_the_ingest(tmp_path: Path, store: Store, lake: Path, header: bytes, match: str) -> None:
    source = tmp_path / "s.csv"
    source.write_bytes(header + b"a,b\n")
    refused(store, lake, source, match)


def test_a_column_missing_in_a_later_file_is_named_with_the_file(tmp_path: Path, store: Store, lake: Path) -> None:
    kit.write_csv(tmp_path / "a.csv", kit.texts(3))
    (tmp_path / "b.csv").write_bytes(b"key,body\nx,y\n")
    message = refused(store, lake, tmp_path / "*.csv", "no column 'text'")
    assert "b.csv" in message
    pq.write_table(pa.table({"text": ["x"]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"body": ["x"]}), tmp_path / "b.parquet")
    assert "b.parquet" in refused(store, lake, tmp_path / "*.parquet", "no column 'text'")


def test_a_column_that_no_json_record_has(source: Path, store: Store, lake: Path) -> None:
    refused(store, lake, source, "no column 'body'; it has key, n, text", text="{text} {body}")
    refused(store, lake, source, "no column 'uid'", id="{uid}")
    refused(store, lake, source, "'kind' that `where` names", where={"kind": "x"})
    refused(store, lake, source, "no column 'text.__class__'", text="{text.__class__}")


def test_duplicate_ids_keep_the_first(tmp_path: Path, store: Store) -> None:
    rows = [
        {"key": "a", "text": "first"},
        {"key": "b", "text": "x"},
        {"key": "a", "text": "second"},
        {"key": None, "text": "x"},
    ]
    manifest = ingest(store, kit.dataset(str(kit.write_jsonl(tmp_path / "s.jsonl", rows)), id="{key}")).manifest
    assert manifest.rejects_by_reason == {"duplicate id": 1, "no id": 1}
    assert [(row["id"], row["text"]) for row in kit.raw_rows(store, manifest)] == [("a", "first"), ("b", "x")]
    assert [(row["record"], row["id"]) for row in kit.rejects(store, manifest)] == [(2, "a"), (3, None)]


def test_a_rejected_record_does_not_use_up_its_id(tmp_path: Path, store: Store) -> None:
    rows = [{"key": "a", "text": " "}, {"key": "a", "text": "good"}]
    manifest = ingest(store, kit.dataset(str(kit.write_jsonl(tmp_path / "s.jsonl", rows)), id="{key}")).manifest
    assert manifest.rejects_by_reason == {"blank text": 1}


def test_rejects_name_the_file_they_came_from(tmp_path: Path, store: Store) -> None:
    (tmp_path / "a.jsonl").write_bytes(GOOD + b"bad\n")
    (tmp_path / "b.jsonl").write_bytes(b"worse\n" + GOOD)
    manifest = ingest(store, kit.dataset(str(tmp_path / "*.jsonl"))).manifest
    found = [(row["record"], Path(row["file"]).name) for row in kit.rejects(store, manifest)]
    assert found == [(1, "a.jsonl"), (2, "b.jsonl")]


@pytest.mark.parametrize(
    ("content", "changes", "match"),
    [
        (b"", {}, "no record"),
        (b"\n\n", {}, "no record"),
        (GOOD * 3, {"where": {"key": "z"}}, "no record that `where` and `rows` let through"),
        (GOOD * 3, {"rows": {"start": 3}}, "no record that `where` and `rows` let through"),
        (b'{"text": ""}\n{"text": null}\n', {}, r"all 2 records are unusable \(empty text, null text\)"),
        ('{"text": "wide"}\n'.encode("utf-16"), {}, "unusable"),
        (b"[\n" + GOOD + b"]\n", {"where": {"key": "z"}}, "unusable"),
        (b"", {"format": "csv"}, "no record"),
    ],
)
def test_an_empty_dataset_is_refused(
    tmp_path: Path, store: Store, lake: Path, content: bytes, changes: dict[str, Any], match: str
) -> None:
    source = tmp_path / "s.jsonl"
    source.write_bytes(content)
    refused(store, lake, source, match, **changes)


def test_a_csv_with_a_header_only_is_empty(tmp_path: Path, store: Store, lake: Path) -> None:
    source = tmp_path / "s.csv"
    source.write_bytes(b"key,text\n")
    refused(store, lake, source, "no record")


def _zstd(data: bytes) -> bytes:
    packed: bytes = pa.compress(data, "zstd", asbytes=True)
    return packed


PACK: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress, ".zst": _zstd,
}  # fmt: skip


@pytest.mark.parametrize("suffix", PACK)
@pytest.mark.parametrize("damage", ["truncated", "flipped", "garbage"])
def test_a_damaged_archive_stops_the_ingest(tmp_path: Path, store: Store, lake: Path, suffix: str, damage: str) -> None:
    lines = b"".join(json.dumps({"text": f"line {i} {i * 7919 % 10007}"}).encode() + b"\n" for i in range(3000))
    packed = PACK[suffix](lines)
    middle = len(packed) // 2
    bad = {
        "truncated": packed[: -len(packed) // 3],
        "flipped": packed[:middle] + bytes(b ^ 0xFF for b in packed[middle : middle + 64]) + packed[middle + 64 :],
        "garbage": b"this is no archive at all, whatever its name says",
    }[damage]
    if (suffix, damage) == (".zst", "flipped"):
        pytest.skip("this packer writes no checksum, so nothing can show the change")
    source = tmp_path / f"s.jsonl{suffix}"
    source.write_bytes(bad)
    assert f"s.jsonl{suffix}" in refused(store, lake, source, "cut off, damaged or not jsonl")


@pytest.mark.parametrize("suffix", PACK)
def test_archives_of_several_frames_are_read_to_their_end(tmp_path: Path, store: Store, suffix: str) -> None:
    source = tmp_path / f"s.jsonl{suffix}"
    source.write_bytes(PACK[suffix](GOOD * 2) + PACK[suffix](GOOD * 3))
    assert ingest(store, kit.dataset(str(source))).manifest.rows == 5


def test_a_file_that_is_not_parquet(tmp_path: Path, store: Store, lake: Path) -> None:
    source = tmp_path / "s.parquet"
    source.write_bytes(b"no parquet " * 100)
    refused(store, lake, source, "not parquet")
    whole = tmp_path / "whole.parquet"
    pq.write_table(pa.table({"text": [f"t{i}" for i in range(1000)]}), whole)
    source.write_bytes(whole.read_bytes()[:-20])
    refused(store, lake, source, "not parquet")


def test_damage_inside_a_parquet_file(tmp_path: Path, store: Store, lake: Path) -> None:
    source = tmp_path / "s.parquet"
    pq.write_table(pa.table({"text": [f"text {i * 7919}" for i in range(20_000)]}), source, row_group_size=1000)
    data = bytearray(source.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 3000] = b"\x5a" * 3000
    source.write_bytes(bytes(data))
    refused(store, lake, source, "damaged")


def test_a_parquet_row_with_invalid_utf8_is_set_aside(tmp_path: Path, store: Store) -> None:
    texts = pa.array([b"good", b"caf\xe9", b"better"], pa.binary())
    source = tmp_path / "s.parquet"
    pq.write_table(pa.table({"text": texts}), source)
    assert reasons(store, source) == {"invalid UTF-8": 1}
    declared = pa.Array.from_buffers(pa.string(), 3, texts.buffers())
    pq.write_table(pa.table({"text": declared}), tmp_path / "t.parquet")
    assert reasons(store, tmp_path / "t.parquet") == {"invalid UTF-8": 1}


def test_parquet_values_that_python_has_no_form_for(tmp_path: Path, store: Store) -> None:
    table = pa.table({"text": ["a", "b"], "at": pa.array([1_000_000_001, None], pa.timestamp("ns")),
                      "clock": pa.array([1, 2], pa.time64("ns"))})  # fmt: skip
    source = tmp_path / "s.parquet"
    pq.write_table(table, source)
    manifest = ingest(store, kit.dataset(str(source))).manifest
    assert [row["text"] for row in kit.raw_rows(store, manifest, ["text"])] == ["a", "b"]


def test_json_columns_that_change_their_type_after_the_sample(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("embed_worker.steps.raw.SAMPLE", 2)
    rows = [
        {"text": "a", "n": 1, "f": 1.5, "s": "x", "b": True, "o": {"k": 1}, "e": None},
        {"text": "b", "n": 2, "f": 2, "s": "y", "b": False, "o": [1], "e": None},
        {"text": "c", "n": "three", "f": "no", "s": 4, "b": 1, "o": "words", "e": "later", "new": {"deep": 1}},
        {"text": "d", "n": 2**70, "f": 3, "s": None, "b": None, "o": None, "e": 5, "new": 2, "text2": "t"},
    ]
    manifest = ingest(store, kit.dataset(str(kit.write_jsonl(tmp_path / "s.jsonl", rows)))).manifest
    assert manifest.rows == 4
    assert manifest.nulled == {"n": 2, "f": 1, "s": 1, "b": 1}
    found = kit.raw_rows(store, manifest)
    assert [row["n"] for row in found] == [1, 2, None, None]
    assert [row["f"] for row in found] == [1.5, 2.0, None, 3.0]
    assert [row["o"] for row in found] == ['{"k":1}', "[1]", '"words"', None]
    assert [row["e"] for row in found] == [None, None, '"later"', "5"]
    assert [row["_other"] for row in found] == [None, None, '{"new":{"deep":1}}', '{"new":2,"text2":"t"}']


def test_parquet_files_that_disagree_on_a_column(tmp_path: Path, store: Store) -> None:
    pq.write_table(pa.table({"text": ["a"], "n": pa.array([1], pa.int32())}), tmp_path / "1.parquet")
    pq.write_table(pa.table({"text": ["b", "c"], "n": ["x", None]}), tmp_path / "2.parquet")
    pq.write_table(pa.table({"text": ["d"], "n": pa.array([2**40], pa.int64()), "m": [1]}), tmp_path / "3.parquet")
    manifest = ingest(store, kit.dataset(str(tmp_path / "*.parquet"))).manifest
    assert [row["n"] for row in kit.raw_rows(store, manifest)] == [1, None, None, None]
    assert manifest.nulled == {"n": 2}


def test_deeply_nested_json_does_not_stop_the_ingest(tmp_path: Path, store: Store) -> None:
    deep: Any = 1
    for _ in range(400):
        deep = [deep]
    manifest = ingest(
        store, kit.dataset(str(kit.write_jsonl(tmp_path / "s.jsonl", [{"text": "a", "x": deep}])))
    ).manifest
    assert manifest.rows == 1
    assert manifest.nulled == {"x": 1}


def test_source_columns_never_clash_with_ours(tmp_path: Path, store: Store) -> None:
    rows = [{"row_id": 7, "id": "i", "text": "t", "title": "T", "source_text": "s", "_other": "o"}]
    source = kit.write_jsonl(tmp_path / "s.jsonl", rows)
    manifest = ingest(store, kit.dataset(str(source), text="{title}: {text}", id="x{id}")).manifest
    assert kit.raw_rows(store, manifest) == [
        {"row_id": 0, "id": "xi", "text": "T: t", "source_row_id": 7, "source_id": "i", "source_text_": "t",
         "title": "T", "source_text": "s", "source__other": "o", "_other": None}
    ]  # fmt: skip
    csv = tmp_path / "s.csv"
    csv.write_bytes(b",text\n0,a\n")
    assert kit.raw_rows(store, ingest(store, kit.dataset(str(csv))).manifest)[0]["source_0"] == "0"


@pytest.mark.parametrize(
    ("source", "match"),
    [
        ("absent.jsonl", "there is no such file"),
        ("nothing-*.jsonl", "no file matches"),
        ("folder", "is a folder"),
        ("nothere://x.jsonl", "cannot be opened"),
        ("zip://absent.csv::packed.zip", "there is no such file"),
        ("zip://a.csv::broken.zip", "cannot be opened"),
        ("packed.zip", r"name the file in it: zip://"),
        ("text.dat", "set `format:`"),
    ],
)
def test_a_source_that_is_not_there(
    tmp_path: Path, store: Store, lake: Path, monkeypatch: pytest.MonkeyPatch, source: str, match: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "text.dat").write_bytes(GOOD)
    with zipfile.ZipFile(tmp_path / "packed.zip", "w") as archive:
        archive.writestr("a.csv", "text\nx\n")
    (tmp_path / "broken.zip").write_bytes((tmp_path / "packed.zip").read_bytes()[:40])
    refused(store, lake, source, match)


def test_a_damaged_member_of_a_zip(tmp_path: Path, store: Store, lake: Path) -> None:
    path = tmp_path / "z.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.jsonl", GOOD * 1000 + b"".join(b'{"text":"%d"}\n' % (i * 7919) for i in range(1000)))
    data = bytearray(path.read_bytes())
    data[200:260] = b"\x00" * 60
    path.write_bytes(bytes(data))
    refused(store, lake, f"zip://a.jsonl::file://{path}", "cannot be read|damaged")


def test_a_source_that_changes_while_it_is_read(
    source: Path, store: Store, lake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = SourceFile.open

    def open_and_append(self: SourceFile) -> Any:
        with source.open("ab") as file:
            file.write(GOOD)
        return original(self)

    monkeypatch.setattr(SourceFile, "open", open_and_append)
    refused(store, lake, source, "changed while it was read")


def test_a_fault_late_in_the_source_leaves_nothing_that_readers_see(
    tmp_path: Path, store: Store, lake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("embed_worker.steps.writers.BATCH_ROWS", 100)
    monkeypatch.setattr("embed_worker.steps.writers.PART_BYTES", 1)
    monkeypatch.setattr("embed_worker.steps.raw.SAMPLE", 100)
    monkeypatch.setattr(records_module, "BUFFER", 4096)
    packed = gzip.compress(b"".join(b'{"text":"%d"}\n' % (i * 7919) for i in range(5_000)))
    source = tmp_path / "s.jsonl.gz"
    source.write_bytes(packed[:-50])
    refused(store, lake, source, "cut off")
    assert list(lake.rglob("part-*.parquet")), "the fault came too early to show anything"
    source.write_bytes(packed)
    assert ingest(store, kit.dataset(str(source))).manifest.rows == 5_000


class _Killed(BaseException):
    pass


def test_a_killed_ingest_leaves_nothing_that_readers_see_and_is_done_again(
    source: Path, store: Store, lake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("embed_worker.steps.writers.BATCH_ROWS", 4)
    monkeypatch.setattr("embed_worker.steps.writers.PART_BYTES", 1)
    whole = ingest(Store(str(lake) + "-whole"), kit.dataset(str(source))).manifest
    seen: list[str] = []

    def killed(store: Store, path: str, manifest: Any) -> bool:
        seen.append(path)
        raise _Killed

    with monkeypatch.context() as patch:
        patch.setattr("embed_worker.steps.raw.write_manifest", killed)
        with pytest.raises(_Killed):
            ingest(store, kit.dataset(str(source)))
    assert seen
    assert kit.manifests(lake) == []
    assert len(list(lake.rglob("part-*.parquet"))) == 5
    again = ingest(store, kit.dataset(str(source)))
    assert again.created
    assert again.manifest.files == whole.files


def test_a_lake_that_cannot_be_written(tmp_path: Path, source: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(StoreUnavailable, match="EMBED_LAKE"):
        ingest(Store(str(tmp_path / "file" / "lake")), kit.dataset(str(source)))
