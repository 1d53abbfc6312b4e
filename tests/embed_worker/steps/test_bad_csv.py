"""Faults in CSV."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from embed_worker.lake.store import Store
from embed_worker.steps.raw import ingest
from tests.kits import pipelines as kit
from tests.kits.bad_sources import reasons, refused


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
        (b"text,text\n", "'text' is there twice: write {text_1} or {text_2}"),
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


def test_a_csv_with_a_header_only_is_empty(tmp_path: Path, store: Store, lake: Path) -> None:
    source = tmp_path / "s.csv"
    source.write_bytes(b"key,text\n")
    refused(store, lake, source, "no record")
