"""Rows equal those of an independent reader, for each format, compression and dialect, whatever the texts."""

import csv
import gzip
import io
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from embed_worker.steps.dialect import Dialect
from embed_worker.steps.errors import SourceError
from embed_worker.steps.records import Account, Fault, read_rows
from embed_worker.steps.source import SourceFile
from embed_worker.steps.values import Written
from tests.kits.fuzz import PACKERS

steady = settings(
    derandomize=True, deadline=None, database=None, max_examples=150, suppress_health_check=list(HealthCheck)
)
PIECES = st.sampled_from(
    [
        '"',
        '""',
        ",",
        ";",
        "\t",
        "\n",
        "\r\n",
        "\\",
        "\\n",
        "'",
        " ",
        "a",
        "é",
        "NA",
        "0",
        "1.0",
        "|",
        "\u2028",
        "\x00",
        "x y",
    ]
)
TEXTS = st.lists(PIECES, max_size=6).map("".join)
ROWS = st.lists(st.tuples(TEXTS, TEXTS, TEXTS), min_size=1, max_size=6)
PACKED = st.sampled_from(sorted(PACKERS))


class _Memory:
    def __init__(self, data: bytes) -> None:
        self._data = data

    def open(self, path: str, mode: str = "rb") -> io.BytesIO:
        return io.BytesIO(self._data)


def read(data: bytes, form: Any, **keys: Any) -> tuple[list[Any], Account]:
    file = SourceFile("x", _Memory(data), "x", form, "infer", Dialect(**keys))  # type: ignore[arg-type]
    account = Account()
    found = [row.record for row in read_rows(file, (), account)]
    assert account.whole and account.total == account.accounted and account.records == len(found)
    return found, account


DIALECTS: list[dict[str, Any]] = [
    {"delimiter": ",", "quotechar": '"', "quoting": csv.QUOTE_MINIMAL},
    {"delimiter": ";", "quotechar": '"', "quoting": csv.QUOTE_ALL},
    {"delimiter": "\t", "quotechar": "'", "quoting": csv.QUOTE_MINIMAL},
    {"delimiter": "|", "quotechar": '"', "quoting": csv.QUOTE_NONNUMERIC, "lineterminator": "\n"},
    {"delimiter": ",", "quotechar": '"', "quoting": csv.QUOTE_ALL, "doublequote": False, "escapechar": "\\"},
]


@given(ROWS, st.sampled_from(DIALECTS), PACKED, st.sampled_from(["utf-8", "utf-16", "utf-8-sig"]))
@steady
def test_csv_as_the_csv_module_writes_and_reads_it(
    rows: list[tuple[str, ...]], dialect: dict[str, Any], packed: str, encoding: str
) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text, **dialect)
    writer.writerows([("h1", "h2", "h3"), *rows])
    data = PACKERS[packed](text.getvalue().encode(encoding))
    keys = {"delimiter": dialect["delimiter"], "quote": dialect["quotechar"], "escape": dialect.get("escapechar")}
    found, _ = read(data, "csv", **keys)
    assert [tuple(record.values()) for record in found] == rows
    theirs = list(csv.reader(io.StringIO(text.getvalue(), newline=""), strict=True, **dialect))[1:]
    if dialect.get("escapechar") is None:
        assert [list(record.values()) for record in found] == theirs


@given(st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=6), PACKED)
@steady
def test_tsv_without_quoting_as_a_split_reads_it(rows: list[tuple[str, ...]], packed: str) -> None:
    clean = [tuple(t.replace("\t", " ").replace("\n", " ").replace("\r", "") for t in row) for row in rows]
    data = "\n".join("\t".join(row) for row in [("a", "b"), *clean]).encode() + b"\n"
    found, _ = read(PACKERS[packed](data), "tsv", quote="none")
    assert [tuple(record.values()) for record in found] == clean
    try:  # without the key: the same, or the run stops with both readings; never other rows
        found, _ = read(data, "tsv")
    except SourceError as error:
        assert "quote" in str(error)
    else:
        if all(isinstance(record, dict) for record in found) and len(found) == len(clean):
            stripped = [tuple(t.strip('"') for t in row) for row in clean]
            assert [tuple(t.strip('"') for t in record.values()) for record in found] in (
                stripped, [tuple(t.replace('""', '"').strip('"') for t in row) for row in clean],
            )  # fmt: skip


@given(ROWS, PACKED)
@steady
def test_csv_as_pandas_writes_it(rows: list[tuple[str, ...]], packed: str) -> None:
    frame = pd.DataFrame(rows, columns=["h1", "h2", "h3"])
    text = frame.to_csv(index=False)
    theirs = pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False, na_values=[])
    found, _ = read(PACKERS[packed](text.encode()), "csv", quote='"')
    if not any("\x00" in t or "\r" in t for row in rows for t in row):  # which pandas itself does not keep
        assert [list(record.values()) for record in found] == theirs.to_numpy().tolist()
    assert [tuple(record.values()) for record in found] == rows
    try:  # without the key: the same, or the run stops with both readings
        found, _ = read(text.encode(), "csv")
    except SourceError as error:
        assert "quote: none" in str(error)
    else:
        assert [tuple(record.values()) for record in found] == rows


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.floats() | TEXTS | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
RECORDS = st.lists(st.dictionaries(st.text(max_size=3), VALUES, max_size=4), min_size=1, max_size=5)
SHAPES = st.sampled_from(["lines", "array", "pretty", "one a line", "over lines"])


@given(RECORDS, SHAPES, PACKED, st.booleans())
@steady
def test_json_as_pythons_json_reads_it(records: list[dict[str, Any]], shape: str, packed: str, ascii_: bool) -> None:
    each = [json.dumps(record, ensure_ascii=ascii_) for record in records]
    text = {
        "lines": "\n".join(each),
        "array": json.dumps(records, ensure_ascii=ascii_),
        "pretty": json.dumps(records, indent=2, ensure_ascii=ascii_),
        "one a line": "[\n" + ",\n".join(each) + "\n]",
        "over lines": "\n".join(json.dumps(record, indent=1, ensure_ascii=ascii_) for record in records),
    }[shape]
    found, _ = read(PACKERS[packed](text.encode("utf-8", "surrogatepass")), "jsonl")
    assert len(found) == len(records)
    for record, ours in zip(records, found, strict=True):
        if isinstance(ours, Fault):
            assert ours.reason in ("lone surrogate", "invalid UTF-8")
        else:
            assert _same(ours, json.loads(json.dumps(record)))


def _same(ours: Any, theirs: Any) -> bool:
    if isinstance(theirs, dict):
        return ours.keys() == theirs.keys() and all(_same(ours[k], theirs[k]) for k in theirs)
    if isinstance(theirs, list):
        return len(ours) == len(theirs) and all(map(_same, ours, theirs))
    if isinstance(theirs, float):
        return repr(float(ours)) == repr(theirs) and (not isinstance(ours, Written) or ours.text == json.dumps(theirs))
    return bool(ours == theirs) and type(ours) is type(theirs)


@given(st.lists(st.fixed_dictionaries({"a": st.none() | st.text(st.characters(codec="utf-8"), max_size=5), "n": st.none() | st.integers(-9, 9)}), min_size=1), PACKED)  # fmt: skip
@steady
def test_parquet_as_pyarrow_reads_it(records: list[dict[str, Any]], packed: str) -> None:
    table = pa.Table.from_pylist(records, pa.schema([("a", pa.string()), ("n", pa.int64())]))
    sink = io.BytesIO()
    pq.write_table(table, sink, row_group_size=2)
    file = SourceFile("x", _Memory(PACKERS[packed](sink.getvalue())), "x", "parquet", "infer")  # type: ignore[arg-type]
    account = Account()
    rows = list(read_rows(file, ["a"], account))
    assert [row.record for row in rows] == [{"a": record["a"]} for record in records]
    assert [row.rest.column("n")[row.at].as_py() for row in rows if row.rest] == [record["n"] for record in records]
    assert (account.total, account.accounted, account.records) == (len(records),) * 3


def test_a_cut_file_is_never_whole(tmp_path: Path) -> None:
    data = gzip.compress(b'{"text": "a"}\n' * 5000)[:-30]
    with pytest.raises(SourceError, match="cut off"):
        read(data, "jsonl")
