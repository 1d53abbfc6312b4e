"""Rows of Parquet read fast: what the record reader gives, whatever the columns are."""

import datetime as dt
import decimal
import io
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from embed_worker.steps.fast import parquet
from embed_worker.steps.readers.parquet import INT96
from tests.kits import LONG
from tests.kits import pipelines as kit
from tests.kits.blocks import same

steady = settings(
    derandomize=not LONG, deadline=None, database=None, max_examples=2000 if LONG else 200,
    suppress_health_check=list(HealthCheck),
)  # fmt: skip
TEXTS = st.sampled_from(["a", "b", "", " ", "\u001c", "née", "long text", "1", "5.0", "true"]) | st.text(max_size=3)
TEXT_COLUMNS = st.tuples(
    st.sampled_from([pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())]),
    st.just(TEXTS),
)
OTHERS = st.sampled_from([
    (pa.int64(), st.integers(-3, 3) | st.sampled_from([2**53 + 1, -(2**63)])),
    (pa.uint64(), st.sampled_from([0, 1, 2**64 - 1])),
    (pa.int8(), st.integers(-3, 3)),
    (pa.float64(), st.floats() | st.sampled_from([1.0, 5.0, 0.1, 1e22])),
    (pa.float32(), st.sampled_from([4.3, 5.0, float("nan"), float("inf")])),
    (pa.bool_(), st.booleans()),
    (pa.null(), st.none()),
    (pa.date32(), st.dates()),
    (pa.timestamp("us"), st.datetimes()),
    (pa.timestamp("ns", "Europe/Berlin"), st.datetimes(dt.datetime(1700, 1, 1), dt.datetime(2200, 1, 1))),
    (pa.timestamp("ms"), st.sampled_from([dt.datetime(1, 1, 1), dt.datetime(2020, 2, 29, 1, 2, 3)])),
    (pa.decimal128(9, 2), st.decimals(-9, 9, places=2)),
    (pa.binary(), st.sampled_from([b"a", b"\xff", b"", "née".encode()])),
    (pa.list_(pa.int64()), st.lists(st.integers(0, 9) | st.none(), max_size=2)),
    (pa.struct([("a", pa.string()), ("b", pa.float64())]), st.fixed_dictionaries({"a": st.just("x"), "b": st.floats(0, 1)})),
])  # fmt: skip
SPECS: list[dict[str, Any]] = [
    {},
    {"id": "{key}"},
    {"id": "{key}-{n}", "text": "{key}\\n{text}"},
    {"text": "{n}", "where": {"key": ["a", 1, True, 5]}},
    {"text": "{text} {n}", "where": {"n": [1, 5, True, "a", 4.3]}, "id": "{text}{n}"},
    {"max_text_bytes": 2, "columns": ["n", "never"]},
    {"columns": {"n": "string", "key": "string"}, "id": "{n}"},
]


@st.composite
def tables(draw: st.DrawFn) -> pa.Table:
    size = draw(st.integers(1, 8))
    columns = {}
    for name, kinds in (
        ("text", TEXT_COLUMNS | TEXT_COLUMNS | OTHERS),
        ("key", TEXT_COLUMNS | OTHERS),
        ("n", OTHERS | TEXT_COLUMNS),
    ):
        kind, values = draw(kinds)
        found = draw(st.lists(values | st.none(), min_size=size, max_size=size))
        if kind == pa.string_view():
            columns[name] = pa.array(found, pa.string()).cast(kind)
        elif pa.types.is_dictionary(kind):
            columns[name] = pa.array(found, kind.value_type).dictionary_encode()
        else:
            columns[name] = pa.array(found, kind)
    return pa.table(columns)


def stored(table: pa.Table) -> tuple[bytes, pa.Table]:
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue(), pq.ParquetFile(io.BytesIO(sink.getvalue()), coerce_int96_timestamp_unit=INT96).read()


@given(tables(), st.sampled_from(SPECS))
@steady
def test_rows_are_what_the_record_reader_gives(table: pa.Table, spec: dict[str, Any]) -> None:
    data, table = stored(table)
    block = parquet.read(table, kit.dataset("x.parquet", **spec))
    if block is None:
        assert any(pa.types.is_binary(one.type) or pa.types.is_timestamp(one.type) for one in table.columns)
    else:
        same(block, data, "x.parquet", **spec)


def test_columns_that_are_called_the_same_have_names_of_their_own() -> None:
    data, table = stored(pa.Table.from_arrays([pa.array(["t"]), pa.array([1]), pa.array([2])], ["text", "n", "n"]))
    block = parquet.read(table, kit.dataset("x.parquet"))
    assert block is not None and block.columns.column_names == ["n_1", "n_2"]
    same(block, data, "x.parquet")


def test_what_only_the_record_reader_can_tell_is_left_to_it() -> None:
    assert parquet.read(pa.table({"text": ["a"]}), kit.dataset("x.parquet", text="{other}")) is None
    no_text = pa.Array.from_buffers(pa.string(), 1, pa.array([b"\xff"]).buffers())
    assert parquet.read(pa.table({"text": no_text}), kit.dataset("x.parquet")) is None


def test_numbers_of_many_digits_are_told_as_they_are() -> None:
    data, table = stored(pa.table({"text": ["a"], "n": [decimal.Decimal("1.10")]}))
    block = parquet.read(table, kit.dataset("x.parquet", text="{text} {n}"))
    assert block is not None and block.own.column("text").to_pylist() == ["a 1.10"]
    same(block, data, "x.parquet", text="{text} {n}")


def test_bytes_that_are_no_text_are_nulled_and_counted() -> None:
    data, table = stored(pa.table({"text": ["a", "b"], "n": [b"\xff", b"c"]}))
    block = parquet.read(table, kit.dataset("x.parquet", columns={"n": "string"}))
    assert block is not None and block.columns.column("n").to_pylist() == [None, "c"] and block.nulled == {"n": 1}
    same(block, data, "x.parquet", columns={"n": "string"})
