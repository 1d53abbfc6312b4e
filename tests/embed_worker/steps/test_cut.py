"""Strides: every row in exactly one, whatever the method, the number, the runs and the layout of the raw files."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from embed_worker.lake import files, layout
from embed_worker.lake.errors import DamagedData
from embed_worker.lake.layout import Partitioning
from embed_worker.lake.snapshots import RawManifest
from embed_worker.lake.store import Store
from embed_worker.steps import cut as strides_module
from embed_worker.steps.cut import content_digest, write_strides
from embed_worker.steps.raw import ingest
from tests.kits import pipelines as kit


def raw_snapshot(store: Store, rows: int, parts: int = 1) -> RawManifest:
    """A committed snapshot of rows that are the same however they lie in parts."""
    with store.scratch() as scratch:
        sources = [
            str(kit.write_jsonl(scratch / f"{at}.jsonl", [{"k": f"k{i}", "text": f"text {i} é"} for i in ids.tolist()]))
            for at, ids in enumerate(np.array_split(np.arange(rows), parts))
        ]
        return ingest(store, kit.dataset(sources, id="{k}")).manifest


def read_stride(store: Store, partitioning: Partitioning, stride: int) -> pa.Table:
    return pq.read_table(store.path(f"{layout.strides_folder('d', partitioning)}/{stride:05d}/part-00000.parquet"))


@pytest.mark.slow
@given(
    rows=st.integers(1, 400),
    count=st.integers(1, 40),
    method=st.sampled_from(["stride", "contiguous"]),
    parts=st.integers(1, 4),
    run_bytes=st.sampled_from([1, 2_000, 1 << 30]),
)
@example(rows=400, count=500, method="stride", parts=1, run_bytes=1 << 30)
@example(rows=3, count=100, method="contiguous", parts=2, run_bytes=1)
@example(rows=1, count=1, method="contiguous", parts=1, run_bytes=1)
@hypothesis_settings(max_examples=20)
def test_every_row_is_in_exactly_one_stride(
    tmp_path_factory: pytest.TempPathFactory, rows: int, count: int, method: Any, parts: int, run_bytes: int
) -> None:
    folder = tmp_path_factory.mktemp("lake")
    store = Store(str(folder))
    raw = raw_snapshot(store, rows, min(parts, rows))
    partitioning = Partitioning(raw.snapshot, method, count)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(strides_module, "RUN_BYTES", run_bytes)
        patch.setattr(strides_module, "BATCH_ROWS", 37)
        cut = write_strides(store, raw, partitioning)
    assert cut.created
    assert len(cut.manifest.strides) == count
    found: list[int] = []
    for stride, entry in enumerate(cut.manifest.strides):
        table = read_stride(store, partitioning, stride)
        ids = table.column("row_id").to_pylist()
        assert ids == list(partitioning.row_ids(stride, rows))
        assert table.column("text").to_pylist() == [f"text {i} é" for i in ids]
        assert table.column_names == ["row_id", "id", "text"]
        assert entry.rows == len(ids)
        assert entry.digest == content_digest(table.to_batches())
        found += ids
    assert sorted(found) == list(range(rows))
    assert list((folder / ".tmp").iterdir()) == [], "the scratch disk is not clean"
    shutil.rmtree(folder)


def test_the_digest_says_the_content_not_the_layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digests = []
    for name, parts, run_bytes in [("a", 1, 1 << 30), ("b", 5, 1), ("c", 2, 3_000)]:
        monkeypatch.setattr(strides_module, "RUN_BYTES", run_bytes)
        store = Store(str(tmp_path / name))
        raw = raw_snapshot(store, 200, parts)
        cut = write_strides(store, raw, Partitioning(raw.snapshot, "stride", 7)).manifest
        digests.append([entry.digest for entry in cut.strides])
    assert digests[0] == digests[1] == digests[2]
    assert len(set(digests[0])) == 7


@pytest.mark.parametrize(
    ("ids", "keys", "texts"),
    [
        ([0, 2], ["a", "b"], ["x", "y"]),
        ([0, 1], ["a", "c"], ["x", "y"]),
        ([0, 1], ["a", "b"], ["x", "z"]),
        ([0, 1], ["ab", ""], ["x", "y"]),
        ([0, 1], ["a", "b"], ["xy", ""]),
        ([0], ["a"], ["x"]),
    ],
)
def test_the_digest_changes_with_any_value(ids: list[int], keys: list[str], texts: list[str]) -> None:
    def digest(*columns: list[Any]) -> str:
        types = [pa.int64(), pa.string(), pa.string()]
        arrays = [pa.array(column, kind) for column, kind in zip(columns, types, strict=True)]
        return content_digest(pa.table(arrays, names=["row_id", "id", "text"]).to_batches())

    assert digest(ids, keys, texts) != digest([0, 1], ["a", "b"], ["x", "y"])


def test_the_digest_does_not_depend_on_chunks() -> None:
    table = pa.table({"row_id": range(10_000), "id": [str(i) for i in range(10_000)], "text": ["t"] * 10_000})
    chunked = pa.concat_tables([table.slice(0, 1), table.slice(1, 4_999), table.slice(5_000)])
    assert content_digest(table.to_batches()) == content_digest(chunked.to_batches())


def test_the_raw_files_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strides_module, "RUN_BYTES", 1)
    store = Store(str(tmp_path))
    raw = raw_snapshot(store, 300, 3)
    fetched: list[str] = []
    opened: list[str] = []
    fetch, parquet = files.fetch, pq.ParquetFile

    def counting_fetch(store: Store, folder: str, file: files.FileRef, target: Path) -> Path:
        fetched.append(file.path)
        return fetch(store, folder, file, target)

    def counting_open(path: Any, *args: Any, **kwargs: Any) -> Any:
        opened.append(str(path))
        return parquet(path, *args, **kwargs)

    monkeypatch.setattr(files, "fetch", counting_fetch)
    monkeypatch.setattr(pq, "ParquetFile", counting_open)
    write_strides(store, raw, Partitioning(raw.snapshot, "stride", 200))
    assert fetched == [part.file.path for part in raw.parts]
    assert len(opened) == 3


def test_what_is_there_is_adopted(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    raw = raw_snapshot(store, 50)
    partitioning = Partitioning(raw.snapshot, "stride", 4)
    first = write_strides(store, raw, partitioning)
    second = write_strides(store, raw, partitioning)
    assert (first.created, second.created) == (True, False)
    assert second.manifest == first.manifest


def test_other_cuts_lie_beside_each_other(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    raw = raw_snapshot(store, 50)
    cuts = [Partitioning(raw.snapshot, "stride", 4), Partitioning(raw.snapshot, "stride", 5),
            Partitioning(raw.snapshot, "contiguous", 4)]  # fmt: skip
    assert [write_strides(store, raw, cut).created for cut in cuts] == [True, True, True]
    assert all(write_strides(store, raw, cut).manifest.count == cut.count for cut in cuts)


def test_files_left_by_a_killed_cut_are_adopted_where_they_are_whole(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    raw = raw_snapshot(store, 50)
    partitioning = Partitioning(raw.snapshot, "stride", 4)
    folder = layout.strides_folder("d", partitioning)
    whole = write_strides(store, raw, partitioning).manifest
    store.delete(f"{folder}/_manifest.json")
    Path(store.path(f"{folder}/00002/part-00000.parquet")).unlink()
    Path(store.path(f"{folder}/00002/part-00000.parquet")).write_bytes(b"half a file")
    again = write_strides(store, raw, partitioning)
    assert again.created
    for stride, (old, new) in enumerate(zip(whole.strides, again.manifest.strides, strict=True)):
        assert new.digest == old.digest and (new == old) is (stride != 2)
        assert files.fault_of(store, folder, new.files[0]) is None


def test_damaged_raw_files_are_named_and_nothing_is_committed(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    raw = raw_snapshot(store, 50, 2)
    damaged = raw.parts[1].file.path
    path = Path(store.path(f"{raw.folder}/{damaged}"))
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(DamagedData, match=damaged):
        write_strides(store, raw, Partitioning(raw.snapshot, "stride", 4))
    assert store.list("stride_partitions") == []


def test_an_ingested_source_is_cut_as_its_manifest_says(tmp_path: Path, lake: Path, source: Path) -> None:
    ready = kit.Prepared(lake, str(source), strides=6, partitioning="contiguous", id="{key}")
    assert [entry.rows for entry in ready.strides.strides] == [3, 3, 4, 3, 3, 4]
    assert ready.strides.rows == 20
    assert ready.strides.input_digest == ready.raw.digest
