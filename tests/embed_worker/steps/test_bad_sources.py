"""Sources that are away, empty, changing, or killed in mid-read; ids and columns that clash."""

import gzip
import zipfile
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from embed_worker.lake.errors import StoreUnavailable
from embed_worker.lake.store import Store
from embed_worker.steps import opening
from embed_worker.steps.raw import ingest
from embed_worker.steps.readers import base
from embed_worker.steps.source import SourceFile
from tests.kits import pipelines as kit
from tests.kits.bad_sources import GOOD, refused


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


def test_more_rejects_than_allowed_stop_the_run_and_are_there_to_look_at(
    tmp_path: Path, store: Store, lake: Path
) -> None:
    source = tmp_path / "s.jsonl"
    source.write_bytes(GOOD * 98 + b'{"text": "\x1b[31m cut\n' + b"worse \xff\n")
    told = refused(
        store, lake, source, r"2 of 100 records are set aside, more than max_rejects 1.00%", max_rejects=0.01
    )
    assert "s.jsonl line 99: malformed JSON" in told and "s.jsonl line 100: invalid UTF-8" in told
    assert "\x1b" not in told
    (kept,) = lake.rglob("*.rejects.parquet")
    assert str(kept) in told
    assert [row["line"] for row in pq.read_table(kept).to_pylist()] == [99, 100]
    assert ingest(store, kit.dataset(str(source), max_rejects=0.02)).manifest.rows == 98


@pytest.mark.parametrize("rows", [{}, {"end": 900}])
def test_a_source_of_which_nothing_can_be_used_is_not_read_to_its_end(
    tmp_path: Path, store: Store, lake: Path, monkeypatch: pytest.MonkeyPatch, rows: dict[str, int]
) -> None:
    monkeypatch.setattr("embed_worker.steps.parse.HOPELESS", 50)
    monkeypatch.setattr("embed_worker.steps.ranges.RANGE_BYTES", 4000)
    source = kit.write_jsonl(tmp_path / "s.jsonl", [{"text": " ", "n": i} for i in range(1000)])
    refused(store, lake, source, r"the first 50 records are unusable \(blank text 50\)", rows=rows)
    assert not list(lake.rglob("parts/*.json")), "what was not read to its end is no part"


@pytest.mark.parametrize(
    ("content", "changes", "match"),
    [
        (b"", {}, "no record"),
        (b"\n\n", {}, "no record"),
        (GOOD * 3, {"where": {"key": "z"}}, "no record that `where` and `rows` let through"),
        (GOOD * 3, {"rows": {"start": 3}}, "no record that `where` and `rows` let through"),
        (b'{"text": ""}\n{"text": null}\n', {}, r"all 2 records are unusable \(empty text 1, null text 1\)"),
        ('{"text": "wide"}\n'.encode("utf-16-le"), {}, "set `encoding: utf-16-le`"),
        (b"[\n" + GOOD + b"]\n", {"where": {"key": "z"}}, "no record has 'z'; most frequent are 'a'"),
        (b"", {"format": "csv"}, "no record"),
    ],
)
def test_an_empty_dataset_is_refused(
    tmp_path: Path, store: Store, lake: Path, content: bytes, changes: dict[str, Any], match: str
) -> None:
    source = tmp_path / "s.jsonl"
    source.write_bytes(content)
    refused(store, lake, source, match, **changes)


def test_source_columns_never_clash_with_ours(tmp_path: Path, store: Store) -> None:
    rows = [{"row_id": 7, "id": "i", "text": "t", "title": "T", "source_text": "s", "_other": "o"}]
    source = kit.write_jsonl(tmp_path / "s.jsonl", rows)
    manifest = ingest(store, kit.dataset(str(source), text="{title}: {text}", id="x{id}")).manifest
    assert kit.raw_rows(store, manifest) == [
        {"row_id": 0, "id": "xi", "text": "T: t", "source_row_id": 7, "source_id": "i", "source_text": "t",
         "title": "T", "source_source_text": "s", "source__other": "o"}
    ]  # fmt: skip
    csv = tmp_path / "s.csv"
    csv.write_bytes(b",text\n0,a\n")
    assert kit.raw_rows(store, ingest(store, kit.dataset(str(csv))).manifest)[0]["column_1"] == "0"


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
    monkeypatch.setattr("embed_worker.steps.fast.block.BLOCK_BYTES", 2000)
    monkeypatch.setattr("embed_worker.steps.parse.PART_BYTES", 1)
    monkeypatch.setattr(opening, "HEAD", 4096)
    monkeypatch.setattr(base, "BUFFER", 4096)
    packed = gzip.compress(b"".join(b'{"text":"%d"}\n' % (i * 7919) for i in range(5_000)))
    source = tmp_path / "s.jsonl.gz"
    source.write_bytes(packed[:-50])
    refused(store, lake, source, "cut off")
    assert list(lake.rglob("parts/*.parquet")), "the fault came too early to show anything"
    source.write_bytes(packed)
    assert ingest(store, kit.dataset(str(source))).manifest.rows == 5_000


class _Killed(BaseException):
    pass


def test_a_killed_ingest_leaves_nothing_that_readers_see_and_is_done_again(
    source: Path, store: Store, lake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("embed_worker.steps.fast.block.BLOCK_BYTES", 50)
    monkeypatch.setattr("embed_worker.steps.parse.PART_BYTES", 1)
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
    assert len(list(lake.rglob("parts/*.parquet"))) == len(whole.parts) > 1
    again = ingest(store, kit.dataset(str(source)))
    assert again.created
    assert again.manifest.parts == whole.parts


def test_a_lake_that_cannot_be_written(tmp_path: Path, source: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(StoreUnavailable, match="EMBED_LAKE"):
        ingest(Store(str(tmp_path / "file" / "lake")), kit.dataset(str(source)))
