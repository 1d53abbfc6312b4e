"""Faults in Parquet."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from embed_worker.lake.store import Store
from embed_worker.steps.raw import ingest
from tests.kits import pipelines as kit
from tests.kits.bad_sources import reasons, refused


def test_a_file_that_is_not_parquet(tmp_path: Path, store: Store, lake: Path) -> None:
    source = tmp_path / "s.parquet"
    source.write_bytes(b"no parquet " * 100)
    refused(store, lake, source, "not parquet")
    source.write_bytes(b"PARE" + b"x" * 100)
    refused(store, lake, source, "encrypted Parquet")
    source.write_bytes(b"")
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


def test_parquet_files_that_disagree_on_a_column(tmp_path: Path, store: Store) -> None:
    pq.write_table(pa.table({"text": ["a"], "n": pa.array([1], pa.int32())}), tmp_path / "1.parquet")
    pq.write_table(pa.table({"text": ["b", "c"], "n": ["x", None]}), tmp_path / "2.parquet")
    pq.write_table(pa.table({"text": ["d"], "n": pa.array([2**40], pa.int64()), "m": [1]}), tmp_path / "3.parquet")
    manifest = ingest(store, kit.dataset(str(tmp_path / "*.parquet"))).manifest
    assert [row["n"] for row in kit.raw_rows(store, manifest)] == ["1", "x", None, str(2**40)]
    assert [row["m"] for row in kit.raw_rows(store, manifest)] == [None, None, None, 1]
    assert manifest.nulled == {}
