"""However the rows are cut into batches, parts and files, the columns are the same, and each value is there."""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from embed_worker.lake.snapshots import RawManifest
from embed_worker.lake.store import Store
from embed_worker.steps import columns, parse, writers
from embed_worker.steps.raw import ingest
from tests.kits import pipelines as kit

steady = settings(
    derandomize=True, deadline=None, database=None, max_examples=80, suppress_health_check=list(HealthCheck)
)
NUMBERS = st.sampled_from([0, 1, -7, 2**53, 2**53 + 1, -(2**63), 2**63, 2**64 - 1, 10**25])
FLOATS = st.floats() | st.sampled_from([1.5, -0.0, 1e22, 5.0])
VALUES = st.none() | st.booleans() | NUMBERS | FLOATS | st.text(max_size=3) | st.just({"a": [1, None]}) | st.just([])
KINDS = st.sampled_from(
    [VALUES, NUMBERS, FLOATS, NUMBERS | FLOATS, st.none() | NUMBERS, st.booleans(), st.text(max_size=2)]
)
COLUMNS = st.tuples(KINDS, KINDS).flatmap(
    lambda kinds: st.lists(st.fixed_dictionaries({}, optional={"x": kinds[0], "y": kinds[1]}), min_size=1, max_size=8)
)


@contextmanager
def cut(batch_rows: int, part_bytes: int) -> Iterator[None]:
    before = writers.BATCH_ROWS, parse.PART_BYTES
    writers.BATCH_ROWS, parse.PART_BYTES = batch_rows, part_bytes
    try:
        yield
    finally:
        writers.BATCH_ROWS, parse.PART_BYTES = before


def made(folder: Path, sources: list[str]) -> tuple[RawManifest, list[dict[str, Any]]]:
    store = Store(str(folder / "lake"))
    manifest = ingest(store, kit.dataset(sources)).manifest
    return manifest, kit.raw_rows(store, manifest)


def told(rows: list[dict[str, Any]]) -> list[str]:
    return [repr(sorted((name, value) for name, value in row.items() if name in "xy")) for row in rows]


@given(COLUMNS, st.integers(1, 3), st.integers(1, 3))
@steady
def test_columns_of_json_are_the_same_however_they_are_cut(rows: list[dict[str, Any]], batch: int, files: int) -> None:
    lines = [json.dumps({"text": "t", **row}) for row in rows]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "whole").mkdir()
        (folder / "whole.jsonl").write_text("\n".join(lines))
        whole, expected = made(folder / "whole", [str(folder / "whole.jsonl")])
        sources = []
        for at in range(files):
            sources.append(str(folder / f"{at}.jsonl"))
            Path(sources[-1]).write_text("\n".join(lines[at * len(lines) // files : (at + 1) * len(lines) // files]))
        with cut(batch, 1):
            parts, found = made(folder / "cut", sources)
    assert told(found) == told(expected)
    assert parts.columns == whole.columns
    for row, kept in zip(rows, found, strict=True):
        for column in ("x", "y"):
            value = row.get(column)
            lost = value is None or (isinstance(value, float) and value != value)
            assert (kept.get(column) is None) == lost
            if not lost and isinstance(value, int | float) and not isinstance(kept[column], str):
                assert kept[column] == value
            if isinstance(value, int) and isinstance(kept[column], str):
                assert kept[column] == json.dumps(value)


ARROW = st.sampled_from(
    [pa.int8(), pa.int64(), pa.uint64(), pa.float32(), pa.float64(), pa.string(), pa.null(), pa.bool_()]
)


@given(
    st.lists(
        st.tuples(ARROW, st.lists(st.integers(0, 100) | st.none(), min_size=1, max_size=3)), min_size=1, max_size=4
    )
)
@steady
def test_columns_of_parquet_lose_no_value(files: list[tuple[pa.DataType, list[int | None]]]) -> None:
    expected: list[Any] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for at, (kind, values) in enumerate(files):
            column = pa.nulls(len(values)) if kind == pa.null() else pa.array(values, pa.int64()).cast(kind)
            pq.write_table(pa.table({"text": ["t"] * len(values), "x": column}), folder / f"{at}.parquet")
            expected += column.to_pylist()
        with cut(2, 1):
            manifest, rows = made(folder, [str(folder / f"{at}.parquet") for at in range(len(files))])
    assert manifest.nulled == {}
    for value, row in zip(expected, rows, strict=True):
        kept = row["x"]
        said = {True: "true", False: "false"}.get(value, str(value)) if isinstance(value, bool) else str(value)
        assert kept in (value, said, said.removesuffix(".0"))


WRITTEN = st.sampled_from([
    (pa.string(), ["007", "7", " 8 ", "7.0", "x", "", "true", "1", "1e3", "nan", "9" * 30]),
    (pa.int64(), [0, 1, 5, 2**53 + 1, -(2**63)]),
    (pa.uint64(), [0, 2**64 - 1]),
    (pa.float64(), [0.0, 1.0, 1.5, 1e300, float("nan"), float("inf")]),
    (pa.bool_(), [True, False]),
    (pa.decimal128(9, 2), [Decimal("1.00"), Decimal("2.50")]),
    (pa.date32(), [date(2020, 1, 1)]),
])  # fmt: skip


@given(
    column=WRITTEN.flatmap(lambda kind: st.tuples(st.just(kind[0]), st.lists(st.none() | st.sampled_from(kind[1])))),
    wanted=st.sampled_from(["int", "float", "bool", "string"]),
)
@steady
def test_what_a_value_of_parquet_becomes_is_not_for_its_neighbours_to_say(
    column: tuple[pa.DataType, list[Any]], wanted: str
) -> None:
    def typed(values: list[Any]) -> list[Any]:
        extra = columns.ExtraColumns(kit.dataset("x", columns={"x": wanted}), set())
        found: list[Any] = extra.of_table(pa.table({"x": pa.array(values, column[0])}))["x"].to_pylist()
        return found

    assert repr(typed(column[1])) == repr([one for value in column[1] for one in typed([value])])


def test_a_number_in_a_text_is_the_same_in_every_format(tmp_path: Path) -> None:
    rows = [{"text": "t", "x": text} for text in ("007", "7", " 8 ", "7.0", "1e3", "true")]
    kit.write_csv(tmp_path / "a.csv", rows)
    kit.write_jsonl(tmp_path / "a.jsonl", rows)
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    found = []
    for name in ("a.csv", "a.jsonl", "a.parquet"):
        store = Store(str(tmp_path / f"lake-{name}"))
        raw = ingest(store, kit.dataset(str(tmp_path / name), columns={"x": "int"})).manifest
        found.append([row["x"] for row in kit.raw_rows(store, raw)])
    assert found == [[None, 7, 8, 7, 1000, None]] * 3
