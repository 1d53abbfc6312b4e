"""Other people's Parquet: every row as it stands, or a reason, or one error. Each test names its kind."""

import datetime as dt
import decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from embed_worker.lake.snapshots import RawManifest
from embed_worker.lake.store import Store
from embed_worker.steps.raw import ingest
from tests.kits import pipelines as kit
from tests.kits.bad_sources import reasons


def made(store: Store, folder: Path, *tables: pa.Table, **changes: Any) -> tuple[RawManifest, list[dict[str, Any]]]:
    for at, table in enumerate(tables):
        pq.write_table(table, folder / f"{at}.parquet")
    spec = kit.dataset(str(folder / "*.parquet"), **{"max_rejects": 0, **changes})
    manifest = ingest(store, spec).manifest
    assert all(account.total == account.accounted for account in manifest.accounts)
    return manifest, kit.raw_rows(store, manifest)


def two(column: pa.Array) -> pa.Table:
    return pa.table({"text": [f"t{i}" for i in range(len(column))], "x": column})


# Kind: the types of a column differ from file to file.

PAIRS: list[tuple[Any, Any, list[Any], str]] = [
    (pa.nulls(1), pa.array(["T"]), [None, "T"], "string"),
    (pa.array([5]), pa.array([4.5]), [5.0, 4.5], "double"),
    (pa.array([2**53 + 1]), pa.array([4.5]), ["9007199254740993", "4.5"], "string"),
    (pa.array([1], pa.int8()), pa.array([2**40]), [1, 2**40], "int64"),
    (pa.array([1], pa.uint64()), pa.array([-1]), ["1", "-1"], "string"),
    (pa.array([1.5], pa.float32()), pa.array([2.25]), [1.5, 2.25], "double"),
    (pa.array([1]), pa.array(["x"]), ["1", "x"], "string"),
    (pa.array([True]), pa.array([1]), ["true", "1"], "string"),
    (pa.array(["a"], pa.large_string()), pa.array(["b"]).dictionary_encode(), ["a", "b"], "string"),
    (pa.array([b"a"]), pa.array(["b"]), [b"a", b"b"], "binary"),
    (pa.array([decimal.Decimal("1.5")]), pa.array([decimal.Decimal("22.25")]),
     [decimal.Decimal("1.50"), decimal.Decimal("22.25")], "decimal128(4, 2)"),
    (pa.array([[1]]), pa.array(["b"]), ["[1]", "b"], "string"),
    (pa.array([{"a": 1}]), pa.array([{"a": 1, "b": 2}]), ['{"a":1}', '{"a":1,"b":2}'], "string"),
    (pa.array([0], pa.timestamp("ms")), pa.array([0], pa.timestamp("us")), [dt.datetime(1970, 1, 1)] * 2,
     "timestamp[us]"),
    (pa.array([0], pa.timestamp("us", "Asia/Tokyo")), pa.array([0], pa.timestamp("us", "UTC")),
     [dt.datetime(1970, 1, 1, tzinfo=dt.UTC)] * 2, "timestamp[us, tz=UTC]"),
]  # fmt: skip


@pytest.mark.parametrize(("first", "second", "values", "kind"), PAIRS, ids=lambda v: str(getattr(v, "type", ""))[:30])
@pytest.mark.parametrize("turned", [False, True])
def test_types_are_those_of_all_files(
    tmp_path: Path, store: Store, first: Any, second: Any, values: list[Any], kind: str, turned: bool
) -> None:
    tables, values = [two(first), two(second)], list(values)
    if turned:
        tables, values = tables[::-1], values[::-1]
    manifest, rows = made(store, tmp_path, *tables)
    assert [row["x"] for row in rows] == values
    assert (manifest.columns["x"].type, manifest.nulled) == (kind, {})


def test_types_are_those_of_all_parts(tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("embed_worker.steps.parse.PART_BYTES", 1)
    manifest, rows = made(store, tmp_path, two(pa.nulls(2)), two(pa.array([1, 2])), two(pa.array(["x", None])))
    assert len(manifest.parts) == 3
    assert [row["x"] for row in rows] == [None, None, "1", "2", "x", None]
    assert manifest.columns["x"].values == 3


def test_a_column_that_only_later_files_have_is_kept(tmp_path: Path, store: Store) -> None:
    first, second = pa.table({"text": ["a"], "x": [1]}), pa.table({"text": ["b"], "helpful": [7]})
    _, rows = made(store, tmp_path, first, second)
    assert [(row["x"], row["helpful"]) for row in rows] == [(1, None), (None, 7)]
    (tmp_path / "c.csv").write_text("text,x\nc,9\n")
    manifest = ingest(store, kit.dataset([str(tmp_path / "0.parquet"), str(tmp_path / "c.csv")])).manifest
    assert [row["x"] for row in kit.raw_rows(store, manifest)] == ["1", "9"]


def test_categories_of_several_files(tmp_path: Path, store: Store) -> None:
    def labels(at: int) -> pa.Array:
        return pa.DictionaryArray.from_arrays(
            pa.array(range(100), pa.int8()), pa.array([f"{at}-{i}" for i in range(100)])
        )

    _, rows = made(store, tmp_path, two(labels(0)), two(labels(1)), two(labels(2)))
    assert [row["x"] for row in rows] == [f"{at}-{i}" for at in range(3) for i in range(100)]


# Kind: odd values of columns that no template names.

YEAR_9999 = int(dt.datetime(9999, 12, 31, 23, 59, 59, tzinfo=dt.UTC).timestamp()) * 10**6
ODD: list[tuple[pa.Array, list[Any]]] = [
    (pa.array([1, 2**63 - 1, None], pa.timestamp("us")), [dt.datetime(1970, 1, 1, 0, 0, 0, 1), None, None]),
    (pa.array([1, -(2**63) + 1, None], pa.timestamp("ms")), [dt.datetime(1970, 1, 1, 0, 0, 0, 1000), None, None]),
    (pa.array([YEAR_9999] * 2, pa.timestamp("us", "Asia/Tokyo")), [dt.datetime(9999, 12, 31, 23, 59, 59, tzinfo=dt.UTC)] * 2),
    (pa.array([0, 2**31 - 1], pa.date32()), [dt.date(1970, 1, 1), None]),
    (pa.array([1, 2], pa.timestamp("us", "tzutc()")), [dt.datetime(1970, 1, 1, 0, 0, 0, i, tzinfo=dt.UTC) for i in (1, 2)]),
    (pa.array([1, 2], pa.timestamp("us", "W. Europe Standard Time")),
     [dt.datetime(1970, 1, 1, 0, 0, 0, i, tzinfo=dt.UTC) for i in (1, 2)]),
    (pa.array([float("inf"), 1.0]), [float("inf"), 1.0]),
    (pa.Array.from_buffers(pa.string(), 2, pa.array([b"ok", b"caf\xe9"]).buffers()), ["ok", None]),
    (pa.array([2**64 - 1, 1], pa.uint64()), [2**64 - 1, 1]),
    (pa.array([1.5, None], pa.float16()), [1.5, None]),
    (pa.array([decimal.Decimal(10) ** 60, None], pa.decimal256(70, 2)), [decimal.Decimal(10) ** 60, None]),
    (pa.array([[("k", 1)], None], pa.map_(pa.string(), pa.int64())), [[("k", 1)], None]),
]  # fmt: skip


@pytest.mark.parametrize(("column", "kept"), ODD, ids=lambda v: str(getattr(v, "type", ""))[:30])
def test_odd_values_of_other_columns_cost_no_row(
    tmp_path: Path, store: Store, column: pa.Array, kept: list[Any]
) -> None:
    manifest, rows = made(store, tmp_path, two(column))
    assert [row["x"] for row in rows] == kept
    lost = len(column) - column.null_count - sum(value is not None for value in kept)
    assert manifest.nulled == ({"x": lost} if lost else {})
    assert manifest.columns["x"].values == len(column) - column.null_count


INDEX = pa.array([i % 100 for i in range(100)], pa.int8())


def nested(at: int) -> pa.Array:
    labels = pa.DictionaryArray.from_arrays(INDEX, pa.array([f"{at}-{i}" for i in range(100)]))
    times = pa.array(range(100), pa.timestamp("us", "tzutc()"))
    return pa.StructArray.from_arrays([labels, times], ["label", "at"])


def test_nested_categories_and_zones(tmp_path: Path, store: Store) -> None:
    lists = [pa.ListArray.from_arrays(pa.array(range(101), pa.int32()), nested(at)) for at in range(2)]
    for make in (lists, [nested(0), nested(1)]):
        manifest, rows = made(store, tmp_path, *[two(column) for column in make])
        values = [row["x"][0] if isinstance(row["x"], list) else row["x"] for row in rows]
        assert [value["label"] for value in values] == [f"{at}-{i}" for at in range(2) for i in range(100)]
        assert values[1]["at"] == dt.datetime(1970, 1, 1, 0, 0, 0, 1, tzinfo=dt.UTC)
        assert "tzutc" not in manifest.columns["x"].type


def test_old_timestamps_beyond_nanoseconds(tmp_path: Path, store: Store) -> None:
    table = pa.table({"text": ["a"], "at": pa.array([YEAR_9999], pa.timestamp("us"))})
    pq.write_table(table, tmp_path / "0.parquet", use_deprecated_int96_timestamps=True)
    manifest = ingest(store, kit.dataset(str(tmp_path / "0.parquet"), text="{text} {at}")).manifest
    (row,) = kit.raw_rows(store, manifest)
    assert row["text"] == "a 9999-12-31 23:59:59"


def test_nested_texts_that_are_no_utf8(tmp_path: Path, store: Store) -> None:
    inner = pa.Array.from_buffers(pa.string(), 2, pa.array([b"ok", b"caf\xe9"]).buffers())
    manifest, rows = made(store, tmp_path, two(pa.ListArray.from_arrays(pa.array([0, 1, 2]), inner)))
    assert [row["x"] for row in rows] == [["ok"], None]
    assert manifest.nulled == {"x": 1}


# Kind: NaN stands for no value, in a template too; a value without a form is a fault of its row alone.


def test_nan_is_no_value_in_a_template(tmp_path: Path, store: Store) -> None:
    table = pa.table({"text": ["a", "b"], "title": [float("nan"), 1.5]})
    assert [row["text"] for row in made(store, tmp_path, table, text="{title}\n{text}")[1]] == ["\na", "1.5\nb"]
    assert reasons(store, tmp_path / "0.parquet", id="{title}") == {"no id": 1}
    assert reasons(store, tmp_path / "0.parquet", text="{title}") == {"null text": 1}


def test_needed_values_are_those_that_were_meant(tmp_path: Path, store: Store) -> None:
    at = pa.array([1_000_000_001, 2_000, -1], pa.timestamp("ns"))
    table = pa.table({"x": pa.array([4.3, 5, None], pa.float32()), "at": at})
    _, rows = made(store, tmp_path, table, text="{x} {at}")
    assert [row["text"] for row in rows] == [
        "4.3 1970-01-01 00:00:01.000000001", "5.0 1970-01-01 00:00:00.000002", " 1969-12-31 23:59:59.999999999",
    ]  # fmt: skip
    assert len(made(store, tmp_path, table, text="{at}", where={"x": 4.3})[1]) == 1


def test_a_needed_value_without_a_form_costs_its_row_alone(tmp_path: Path, store: Store) -> None:
    at = pa.array([0, 2**63 - 1], pa.timestamp("us"))
    pq.write_table(pa.table({"text": ["a", "b"], "at": at}), tmp_path / "r.parquet")
    assert reasons(store, tmp_path / "r.parquet", text="{text} {at}") == {"unreadable value": 1}


def test_columns_that_are_there_twice_have_names_of_their_own(tmp_path: Path, store: Store) -> None:
    table = pa.Table.from_arrays([pa.array(["a"]), pa.array([1]), pa.array([2])], names=["text", "x", "x"])
    _, rows = made(store, tmp_path, table)
    assert (rows[0]["x_1"], rows[0]["x_2"]) == (1, 2)


def test_columns_can_be_left_out_or_typed(tmp_path: Path, store: Store) -> None:
    table = pa.table({"text": ["a", "b"], "x": [1, 2], "y": ["5", "z"], "z": [0, 0]})
    manifest, rows = made(store, tmp_path, table, columns={"x": "string", "y": "int"})
    assert [(row["x"], row["y"]) for row in rows] == [("1", 5), ("2", None)]
    assert list(manifest.columns) == ["x", "y"] and manifest.nulled == {"y": 1}


# Kind: numbers of every format are compared as numbers.


@pytest.mark.parametrize(
    "values",
    [pa.array([5.0, 4.0, 5.0]), pa.array([5, 4, 5], pa.int8()), pa.array(["5", "4.0", "5.0"]),
     pa.array([decimal.Decimal("5.00"), decimal.Decimal("4.00"), decimal.Decimal("5.00")])],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("wanted", [5, 5.0])
def test_where_compares_numbers_as_numbers(tmp_path: Path, store: Store, values: pa.Array, wanted: Any) -> None:
    manifest, _ = made(store, tmp_path, pa.table({"text": ["a", "b", "c"], "x": values}), where={"x": [wanted, 7]})
    assert (manifest.rows, manifest.filtered) == (2, 1)
    assert manifest.matched == {"x": {str(wanted): 2, "7": 0}}
    assert "where.x: no record has '7'; most frequent are" in manifest.warnings[0]
