"""Sources of every form become the same rows; the same source is the same snapshot; memory stays bounded."""

import bz2
import gzip
import json
import lzma
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from embed_worker.lake import layout
from embed_worker.lake.store import Store
from embed_worker.steps.filter import RowFilter
from embed_worker.steps.raw import DamagedSnapshot, Progress, ingest
from tests.kits import pipelines as kit

RECORDS = [{"key": f"k{i}", "text": f"text {i}, with “quotes”, a comma\tand a tab", "n": i} for i in range(30)]
PACK: dict[str, Callable[[bytes], bytes]] = {
    "": lambda data: data,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": lambda data: pa.compress(data, "zstd", asbytes=True),
    ".zstd": lambda data: pa.compress(data, "zstd", asbytes=True),
}


def plain(folder: Path, form: str, records: list[dict[str, Any]] = RECORDS) -> Path:
    path = folder / f"s.{form}"
    if form == "jsonl":
        return kit.write_jsonl(path, records)
    if form == "parquet":
        pq.write_table(pa.Table.from_pylist(records), path)
        return path
    return kit.write_csv(path, records, "\t" if form == "tsv" else ",")


@pytest.mark.parametrize("form", ["jsonl", "csv", "tsv", "parquet"])
@pytest.mark.parametrize("suffix", PACK)
def test_every_format_and_compression_gives_the_same_rows(tmp_path: Path, store: Store, form: str, suffix: str) -> None:
    path = plain(tmp_path, form)
    packed = tmp_path / f"packed.{form}{suffix}"
    packed.write_bytes(PACK[suffix](path.read_bytes()))
    manifest = ingest(store, kit.dataset(str(packed), id="{key}")).manifest
    found = kit.raw_rows(store, manifest, ["row_id", "id", "text"])
    assert found == [{"row_id": i, "id": r["key"], "text": r["text"]} for i, r in enumerate(RECORDS)]
    assert manifest.rejects is None
    assert manifest.text_bytes == sum(len(str(r["text"]).encode()) for r in RECORDS)


def test_format_and_compression_can_be_said_where_the_name_does_not(tmp_path: Path, store: Store) -> None:
    path = tmp_path / "download"
    path.write_bytes(gzip.compress(plain(tmp_path, "csv").read_bytes()))
    assert ingest(store, kit.dataset(str(path), format="csv", compression="gzip")).manifest.rows == 30
    misnamed = tmp_path / "plain.jsonl.gz"
    misnamed.write_bytes(plain(tmp_path, "jsonl").read_bytes())
    assert ingest(store, kit.dataset(str(misnamed), compression="none")).manifest.rows == 30


def test_sources_are_read_in_their_order_and_globs_in_that_of_their_names(tmp_path: Path, store: Store) -> None:
    for name, start in {"b": 0, "a": 10, "c": 20}.items():
        kit.write_jsonl(tmp_path / f"{name}.jsonl", RECORDS[start : start + 10])
    listed = [str(tmp_path / f"{name}.jsonl") for name in "bac"]
    in_order = ingest(store, kit.dataset(listed, id="{key}")).manifest
    assert [row["id"] for row in kit.raw_rows(store, in_order)] == [f"k{i}" for i in range(30)]
    globbed = ingest(store, kit.dataset(str(tmp_path / "*.jsonl"), id="{key}")).manifest
    expected = [f"k{i}" for i in [*range(10, 20), *range(10), *range(20, 30)]]
    assert [row["id"] for row in kit.raw_rows(store, globbed)] == expected
    assert [Path(file.url).name for file in globbed.source] == ["a.jsonl", "b.jsonl", "c.jsonl"]


def test_files_in_an_archive_are_read_in_place(tmp_path: Path, store: Store) -> None:
    archive = tmp_path / "all.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("in/a.jsonl.bz2", bz2.compress(b'{"text": "one"}\n'))
        file.writestr("in/b.jsonl.bz2", bz2.compress(b'{"text": "two"}\n'))
    one = ingest(store, kit.dataset(f"zip://in/b.jsonl.bz2::file://{archive}")).manifest
    assert [row["text"] for row in kit.raw_rows(store, one)] == ["two"]
    both = ingest(store, kit.dataset(f"zip://in/*.bz2::file://{archive}", name="both")).manifest
    assert [row["text"] for row in kit.raw_rows(store, both)] == ["one", "two"]


@pytest.mark.parametrize("form", ["jsonl", "csv", "parquet"])
def test_where_and_rows_select_records(tmp_path: Path, store: Store, form: str) -> None:
    path = plain(tmp_path, form)
    odd = {"n": [i for i in range(30) if i % 2]}
    manifest = ingest(store, kit.dataset(str(path), where=odd, rows={"start": 2, "end": 6})).manifest
    # Ids are positions in the source, before the filter: adding a filter does not rename what stays.
    assert [row["id"] for row in kit.raw_rows(store, manifest)] == ["5", "7", "9", "11"]
    assert manifest.records == 4


@pytest.mark.parametrize(
    ("wanted", "value", "kept"),
    [
        (5, 5, True), (5, 5.0, True), (5, "5", True), (5.0, "5.0", True), (5, "5.0", True), (5, 6, False), (5, "05", False), (5, " 5", True), (5, "5e0", True),
        (5, Decimal("5.00"), True), (0.1, "0.10", True), ("5.0", "5", False), ("5", 5.0, True), ("x", float("nan"), False),
        (True, True, True), (True, "True", True), (True, "true", True), (True, False, False), (True, 1, False),
        ("true", True, True), (1, True, False), ("None", None, False), ("", None, False), ("", "", True),
        (["a", "b"], "b", True), (["a", "b"], "c", False), ("5", 5, True),
    ],
)  # fmt: skip
def test_the_row_filter_compares_what_the_value_says(wanted: Any, value: Any, kept: bool) -> None:
    assert RowFilter({"c": wanted})({"c": value}) is kept


def test_an_unchanged_source_is_adopted(source: Path, store: Store, lake: Path) -> None:
    kit.settle(source)
    first = ingest(store, kit.dataset(str(source)))
    before = {path: path.stat().st_mtime_ns for path in lake.rglob("*") if path.is_file()}
    second = ingest(store, kit.dataset(str(source), strides=9, partitioning="contiguous"))
    assert (first.created, second.created) == (True, False)
    assert second.manifest == first.manifest
    assert {path: path.stat().st_mtime_ns for path in lake.rglob("*") if path.is_file()} == before


def test_a_source_that_was_just_written_is_read_once_more_and_then_known(
    source: Path, store: Store, lake: Path
) -> None:
    dataset = kit.dataset(str(source))
    first, read = ingest(store, dataset), list[Progress]()
    kit.settle(source)
    assert ingest(store, dataset, read.append).manifest == first.manifest
    before = {path: path.stat().st_mtime_ns for path in lake.rglob("*") if path.is_file()}
    assert ingest(store, dataset, read.append).manifest == first.manifest
    assert [told.read for told in read] == [source.stat().st_size, 0]
    assert {path: path.stat().st_mtime_ns for path in lake.rglob("*") if path.is_file()} == before


def test_a_copy_elsewhere_is_the_same_snapshot(source: Path, store: Store) -> None:
    first = ingest(store, kit.dataset(str(source))).manifest
    copy = source.with_name("moved.jsonl")
    copy.write_bytes(source.read_bytes())
    assert not ingest(store, kit.dataset(str(copy))).created
    assert ingest(store, kit.dataset(str(copy))).manifest.snapshot == first.snapshot


@pytest.mark.parametrize(
    "changes",
    [{"text": "{text}!"}, {"id": "{key}"}, {"where": {"n": [1, 2]}}, {"rows": {"end": 3}}, {"max_text_bytes": 9999}],
)
def test_another_ingest_spec_is_another_snapshot_beside_the_old(
    source: Path, store: Store, lake: Path, changes: dict[str, Any]
) -> None:
    first = ingest(store, kit.dataset(str(source))).manifest
    second = ingest(store, kit.dataset(str(source), **changes)).manifest
    assert second.snapshot != first.snapshot
    assert len(kit.raw_rows(store, first)) == 20, "the old snapshot is gone"
    for pointer in (layout.raw_base, layout.raw_latest):
        assert json.loads((lake / pointer("d", second.ingest_id)).read_text())["snapshot"] == second.snapshot
    back = ingest(store, kit.dataset(str(source)))
    assert not back.created
    for pointer in (layout.raw_base, layout.raw_latest):
        assert json.loads((lake / pointer("d", first.ingest_id)).read_text())["snapshot"] == first.snapshot


def test_a_changed_source_is_another_snapshot(source: Path, store: Store) -> None:
    first = ingest(store, kit.dataset(str(source))).manifest
    size = source.stat().st_size
    source.write_bytes(source.read_bytes().replace(b"number 3", b"number 7"))
    assert source.stat().st_size == size
    second = ingest(store, kit.dataset(str(source)))
    assert second.created
    assert second.manifest.snapshot != first.snapshot
    assert len(kit.raw_rows(store, first)) == 20


def test_the_same_bytes_in_another_format_are_another_snapshot(tmp_path: Path, store: Store) -> None:
    content = "text\nwords\twith a tab\n"
    (tmp_path / "a.csv").write_text(content)
    (tmp_path / "a.tsv").write_text(content.replace("words\twith", "words with").replace("text", "text"))
    (tmp_path / "a.tsv").write_text("text\nplain\n")
    (tmp_path / "a.csv").write_text("text\nplain\n")
    as_csv = ingest(store, kit.dataset(str(tmp_path / "a.csv")))
    as_tsv = ingest(store, kit.dataset(str(tmp_path / "a.tsv")))
    assert as_tsv.created
    assert as_tsv.manifest.snapshot != as_csv.manifest.snapshot


def test_a_damaged_manifest_is_named_not_taken_for_none(source: Path, store: Store, lake: Path) -> None:
    manifest = ingest(store, kit.dataset(str(source))).manifest
    (lake / manifest.path).write_text("{}")
    with pytest.raises(DamagedSnapshot, match=rf"{manifest.snapshot}\.json"):
        ingest(store, kit.dataset(str(source)))


def test_a_damaged_latest_pointer_is_written_anew(source: Path, store: Store, lake: Path) -> None:
    manifest = ingest(store, kit.dataset(str(source))).manifest
    pointer = lake / layout.raw_latest("d", manifest.ingest_id)
    pointer.write_text("garbage")
    assert not ingest(store, kit.dataset(str(source))).created
    assert json.loads(pointer.read_text())["snapshot"] == manifest.snapshot


def test_parts_are_cut_at_their_size(source: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("embed_worker.steps.writers.BATCH_ROWS", 3)
    monkeypatch.setattr("embed_worker.steps.parse.PART_BYTES", 200)
    monkeypatch.setattr("embed_worker.steps.fast.block.BLOCK_BYTES", 50)
    manifest = ingest(store, kit.dataset(str(source), id="{key}")).manifest
    assert len(manifest.parts) > 1
    assert sum(part.rows for part in manifest.parts) == 20
    assert [row["row_id"] for row in kit.raw_rows(store, manifest)] == list(range(20))


def test_progress_tells_bytes_and_rows(tmp_path: Path, store: Store) -> None:
    seen: list[Progress] = []
    sources = [kit.write_jsonl(tmp_path / f"{name}.jsonl", kit.texts(10)) for name in "ab"]
    sizes = [path.stat().st_size for path in sources]
    ingest(store, kit.dataset([str(path) for path in sources]), seen.append)
    assert seen == [Progress(sizes[0], sum(sizes), 10, sizes[0]), Progress(sum(sizes), sum(sizes), 20, sum(sizes))]


def test_progress_tells_how_far_a_packed_file_is(tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("embed_worker.steps.parse.PART_BYTES", 1)
    monkeypatch.setattr("embed_worker.steps.fast.block.BLOCK_BYTES", 20_000)
    monkeypatch.setattr("embed_worker.steps.opening.HEAD", 4096)
    monkeypatch.setattr("embed_worker.steps.readers.base.BUFFER", 4096)
    data = kit.write_jsonl(tmp_path / "s.jsonl", [{"text": str(i * 7919)} for i in range(200_000)]).read_bytes()
    packed = tmp_path / "s.jsonl.gz"
    packed.write_bytes(gzip.compress(data))
    seen: list[Progress] = []
    ingest(store, kit.dataset(str(packed), rows={"end": 40_000}), seen.append)
    rows = [told.rows for told in seen]
    assert len(seen) > 20 and rows == sorted(set(rows)) and rows[-1] == 40_000
    assert all(0 < told.bytes < packed.stat().st_size / 2 for told in seen[:-1])


MEASURE = """
import re, sys, threading
from pathlib import Path
from embed_worker.steps.raw import ingest
from embed_worker.steps.cut import write_strides
from embed_worker.steps import parse, ranges, writers
from embed_worker.steps.fast import block
from embed_worker.steps.readers import parquet
from embed_assets.spec import DatasetSpec
from embed_worker.lake.layout import Partitioning
from embed_worker.lake.store import Store
writers.BATCH_BYTES, parse.PART_BYTES, ranges.RANGE_BYTES, ranges.GROUPS_BYTES = 1 << 20, 8 << 20, 4 << 20, 4 << 20
block.BLOCK_BYTES, parquet.BATCH_BYTES = 1 << 20, 1 << 20
peak, done = 0, threading.Event()
def watch():  # pages of mapped files are the kernel's to take back: only this process's own memory counts
    global peak
    while not done.wait(0.005):
        peak = max(peak, int(re.search(r"RssAnon:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]))
watcher = threading.Thread(target=watch, daemon=True)
watcher.start()
store = Store(sys.argv[1])
manifest = ingest(store, DatasetSpec(name="d", source=sys.argv[2], text="{title} {text}", strides=4)).manifest
write_strides(store, manifest, Partitioning("stride", 4))
done.set()
watcher.join()
print(manifest.rows, peak)
"""


@pytest.mark.slow
@pytest.mark.parametrize("form", ["jsonl", "csv", "parquet"])
def test_memory_does_not_grow_with_the_source(tmp_path: Path, form: str) -> None:
    def peak(rows: int) -> int:
        records = [
            {"key": f"{i:08d}", "title": f"title {i}", "text": f"{i * 7919 % 10007} lorem " * 8} for i in range(rows)
        ]
        folder = tmp_path / str(rows)
        folder.mkdir()
        source = plain(folder, form, records)
        del records
        command = [sys.executable, "-c", MEASURE, str(folder / "lake"), str(source)]
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "MALLOC_ARENA_MAX": "2", "ARROW_DEFAULT_MEMORY_POOL": "system"},
        )
        found, kilobytes = (int(word) for word in done.stdout.split())
        assert found == rows
        return kilobytes

    small, large = peak(60_000), peak(240_000)  # a part is held until its types are known: both fill more than one
    assert large < 1.3 * small, f"{small} kB for 60,000 rows, {large} kB for 240,000"
