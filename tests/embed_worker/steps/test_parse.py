"""The fast path and the careful one make the same parts, wherever a file is cut into ranges, blocks and parts."""

import datetime as dt
import decimal
import gzip
import io
import json
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from embed_worker.lake.store import Store
from embed_worker.steps import columns, opening, parse, ranges
from embed_worker.steps.errors import SourceError
from embed_worker.steps.fast import block, flat
from embed_worker.steps.fast import jsonl as fast_jsonl
from embed_worker.steps.fast import parquet as fast_parquet
from embed_worker.steps.fast import separated as fast_separated
from embed_worker.steps.fast.block import Block
from embed_worker.steps.raw import ingest
from embed_worker.steps.readers import base, parquet
from tests.kits import LONG
from tests.kits import pipelines as kit
from tests.kits.blocks import slowly

steady = settings(
    derandomize=not LONG, deadline=None, database=None, max_examples=1000 if LONG else 60,
    suppress_health_check=list(HealthCheck),
)  # fmt: skip
VALUES: st.SearchStrategy[Any] = st.sampled_from([None, 1, 5.0, 2**53 + 1, True, "a", "", " ", "née\n", [], {"k": [1]}])
RECORDS = st.dictionaries(st.sampled_from(["text", "text", "key", "n", "x", "id", "source_id"]), VALUES, max_size=5)
LINES = st.lists(
    RECORDS.map(lambda record: json.dumps(record).encode())
    | st.sampled_from([b"", b" \t", b"nope", b"[1]", b'{"text":"\xff"}', b'{"text":1.10}', b'{"text":"a","text":null}\r']),
    max_size=30,
)  # fmt: skip
SPECS: list[dict[str, Any]] = [
    {},
    {"id": "{key}"},
    {"id": "{key}-{n}", "text": "{key}\\n{text}", "where": {"n": [1, 5, "a"]}},
    {"where": {"x": True}, "columns": ["n", "never"]},
    {"json_numbers": "text"},
    {"rows": {"start": 3, "end": 9}},
    {"rows": {"start": 2}},
]


def made(folder: Path, source: Path, spec: dict[str, Any]) -> Any:
    """All that a snapshot says of its source."""
    store = Store(str(folder))
    try:
        raw = ingest(store, kit.dataset(str(source), **spec)).manifest
    except SourceError as error:
        return str(error).partition("; all are in")[0]
    ours = ("rows", "records", "filtered", "outside", "rejects_by_reason", "accounts", "columns", "matched", "digest",
            "text_bytes", "arrow_schema", "warnings", "first_rejects")  # fmt: skip
    figures = {name: getattr(raw, name) for name in ours}
    return repr(kit.raw_rows(store, raw)), repr(kit.rejects(store, raw)), figures


SIZES = st.tuples(st.integers(40, 900), st.integers(100, 900), st.sampled_from([1, 300, 1 << 30]))
BOUNDS = st.sampled_from([(1000, 500_000), (6, 500_000), (1000, 3)])


def alike(name: str, data: bytes, spec: dict[str, Any], sizes: tuple[int, int, int], bounds: tuple[int, int]) -> None:
    """Fails where the two paths differ. `sizes`: of blocks, ranges, parts; `bounds`: of names and rejects."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        source = Path(folder) / name
        source.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
        patch.setattr(flat, "MAX_KEY", 16)  # the last bytes of a block are read line by line
        patch.setattr(block, "BLOCK_BYTES", sizes[0])
        patch.setattr(opening, "HEAD", 64)
        patch.setattr(base, "BUFFER", 32)
        patch.setattr(ranges, "RANGE_BYTES", sizes[1])
        patch.setattr(ranges, "GROUPS_BYTES", sizes[1])
        patch.setattr(parquet, "BATCH_BYTES", sizes[0])
        patch.setattr(parse, "PART_BYTES", sizes[2])
        patch.setattr(parse, "PART_REJECTS", bounds[1])
        patch.setattr(columns, "MAX_NAMED", bounds[0])
        fast = made(Path(folder) / "fast", source, spec)
        with pytest.MonkeyPatch.context() as off:
            slowly(off)
            careful = made(Path(folder) / "careful", source, spec)
    assert fast == careful


@given(
    lines=LINES,
    first=st.sampled_from([b'{"text":"first","key":"z","n":0,"x":true}', b'{"text":"first"}', b'{"n":"a"}']),
    spec=st.sampled_from(SPECS),
    packed=st.booleans(),
    sizes=SIZES,
    bounds=BOUNDS,
)
@steady
def test_json_lines(
    lines: list[bytes],
    first: bytes,
    spec: dict[str, Any],
    packed: bool,
    sizes: tuple[int, int, int],
    bounds: tuple[int, int],
) -> None:
    alike("s.jsonl.gz" if packed else "s.jsonl", b"\n".join([first, *lines]), spec, sizes, bounds)


FIELDS = st.sampled_from(["a", "b", "", " ", "née 😀", "1", "007", "NA", "x\ry", "long " * 9])
QUOTED = st.sampled_from(['"a"', '""', '"a,b\tc"', '"say ""so"""', '"x\ny"', '"\r\n"', '"NA"', '"a,b\n\nc,d"'])
ODD = st.sampled_from(['"', 'a"b', '"a" ', '"open', "\\", '\\"'])
ENDS = st.sampled_from(["\n", "\n", "\n", "\r\n", "\n\n", "\n\r\n"])
SEPARATED: list[dict[str, Any]] = [
    {},
    {"id": "{key}"},
    {"id": "{key}-{n}", "text": "{key}\\n{text}", "where": {"n": [1, "a", "b"]}, "null_values": ["NA"]},
    {"quote": "none", "columns": ["n"]},
    {"quote": '"', "columns": {"n": "int"}},
    {"rows": {"start": 3, "end": 9}},
    {"rows": {"start": 2}, "quote": '"'},
    {"escape": "\\"},
    {"header": "none", "columns": ["key", "text", "n"]},
    {"encoding": "cp1252"},
]


@st.composite
def separated_files(draw: st.DrawFn) -> tuple[str, bytes]:
    suffix = draw(st.sampled_from(["csv", "csv", "tsv"]))
    delimiter = "," if suffix == "csv" else "\t"
    kinds = draw(st.sampled_from([FIELDS, FIELDS | QUOTED, FIELDS | QUOTED, FIELDS | QUOTED | ODD]))
    rows = st.lists(kinds, min_size=3, max_size=3)
    short = st.lists(FIELDS, max_size=4)
    text = delimiter.join(draw(st.sampled_from([["key", "text", "n"], ['"key"', '"text"', '"n"']]))) + draw(ENDS)
    for row in draw(st.lists(rows | rows | rows | short, max_size=25)):
        text += delimiter.join(row) + draw(ENDS)
    data = text.removesuffix("\n" * draw(st.integers(0, 1))).encode()
    if draw(st.integers(0, 9)) == 0:
        data += b"\xff,\xff,\xff\n"
    return suffix, data


@given(file=separated_files(), spec=st.sampled_from(SEPARATED), packed=st.booleans(), sizes=SIZES, bounds=BOUNDS)
@settings(parent=steady, max_examples=3000 if LONG else 200)
def test_separated(
    file: tuple[str, bytes], spec: dict[str, Any], packed: bool, sizes: tuple[int, int, int], bounds: tuple[int, int]
) -> None:
    alike(f"s.{file[0]}{'.gz' if packed else ''}", file[1], spec, sizes, bounds)


COLUMN = st.sampled_from([
    (pa.string(), ["a", "", " ", "née", "007", "5.0", "true", "long " * 9]),
    (pa.int64(), [1, 5, 2**53 + 1, -3]),
    (pa.float64(), [1.0, 5.0, 0.5, float("nan"), float("inf")]),
    (pa.bool_(), [True, False]),
    (pa.binary(), [b"a", b"\xff"]),
    (pa.timestamp("us"), [dt.datetime(2020, 1, 1), dt.datetime(1, 1, 1)]),
    (pa.decimal128(9, 2), [decimal.Decimal("1.00"), decimal.Decimal("2.50")]),
    (pa.list_(pa.int64()), [[1], []]),
])  # fmt: skip
IN_PARQUET: list[dict[str, Any]] = [
    *SPECS[:4],
    *SPECS[5:],
    *({"columns": {"n": kind, "x": kind}} for kind in ("int", "float", "bool", "string")),
]


@st.composite
def parquet_files(draw: st.DrawFn) -> bytes:
    size = draw(st.integers(0, 30))
    found = {}
    for name in ("text", "key", "n", "x"):
        kind, values = draw(
            COLUMN if name != "text" else st.sampled_from([(pa.string(), ["a", "", "née", "long " * 9])])
        )
        found[name] = pa.array(draw(st.lists(st.sampled_from([*values, None]), min_size=size, max_size=size)), kind)
    sink = io.BytesIO()
    pq.write_table(pa.table(found), sink, row_group_size=draw(st.integers(1, 20)))
    return sink.getvalue()


@given(data=parquet_files(), spec=st.sampled_from(IN_PARQUET), packed=st.booleans(), sizes=SIZES, bounds=BOUNDS)
@settings(parent=steady, max_examples=2000 if LONG else 150)
def test_parquet(
    data: bytes, spec: dict[str, Any], packed: bool, sizes: tuple[int, int, int], bounds: tuple[int, int]
) -> None:
    alike(f"s.parquet{'.gz' if packed else ''}", data, spec, sizes, bounds)


def counted(monkeypatch: pytest.MonkeyPatch) -> list[Block | None]:
    """The blocks that the fast paths read from now on."""
    found: list[Block | None] = []

    def watched(read: Callable[..., Block | None], *asked: Any) -> Block | None:
        found.append(read(*asked))
        return found[-1]

    for module in (fast_jsonl, fast_separated, fast_parquet):
        monkeypatch.setattr(module, "read", partial(watched, module.read))
    return found


@pytest.mark.parametrize("name", ["s.jsonl", "s.jsonl.gz"])
def test_plain_lines_go_by_the_fast_path(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    data = b"".join(b'{"key":"k%d","text":"t %d","n":%d}\n' % (i, i, i) for i in range(5000))
    source = tmp_path / name
    source.write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    monkeypatch.setattr(block, "BLOCK_BYTES", 20_000)
    monkeypatch.setattr(opening, "HEAD", 4096)
    monkeypatch.setattr(ranges, "RANGE_BYTES", 70_000)
    blocks = counted(monkeypatch)
    assert ingest(store, kit.dataset(str(source), id="{key}")).manifest.rows == 5000
    assert len(blocks) >= len(data) // 20_000
    assert all(one is not None and one.by_record <= 3 for one in blocks)


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("s.csv", "k%d,plain %d,%d"),
        ("s.csv", '"k%d","a ""quoted"" text, over\ntwo lines %d",%d'),
        ("s.csv", 'k%d,"only here, %d",%d'),
        ("s.tsv", "k%d\tplain %d\t%d"),
        ("s.tsv", 'k%d\ta "word" %d\t%d'),
        ("s.tsv", '"k%d"\t"a ""quoted"" text %d"\t"%d"'),
    ],
)
def test_plain_records_go_by_the_fast_path(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch, name: str, line: str
) -> None:
    """All but the record that shows how fields are quoted."""
    header = "\t".join(["key", "text", "n"]) if name.endswith("tsv") else "key,text,n"
    data = "\n".join([header, *(line % (i, i, i) for i in range(5000)), ""])
    (tmp_path / name).write_text(data)
    monkeypatch.setattr(block, "BLOCK_BYTES", 20_000)
    blocks = counted(monkeypatch)
    assert ingest(store, kit.dataset(str(tmp_path / name), id="{key}")).manifest.rows == 5000
    rows = sum(one.own.num_rows for one in blocks if one is not None)
    assert rows >= 4998


def test_behind_a_broken_record_the_fast_path_goes_on(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = ['"a","b, c"'] * 1000
    rows[300] = '"a",b"c'
    rows[301] = '"a"x,b'
    (tmp_path / "s.csv").write_text("\n".join(["key,text", *rows, ""]))
    monkeypatch.setattr(block, "BLOCK_BYTES", 500)
    blocks = counted(monkeypatch)
    raw = ingest(store, kit.dataset(str(tmp_path / "s.csv"))).manifest
    assert raw.rejects_by_reason == {"quote closes in mid-field": 1} and raw.rows == 999
    assert sum(one.own.num_rows for one in blocks if one is not None) > 900


def test_parquet_goes_by_the_fast_path(tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    table = pa.table({"key": list(map(str, range(5000))), "text": ["t"] * 5000, "n": list(range(5000))})
    pq.write_table(table, tmp_path / "s.parquet", row_group_size=700)
    monkeypatch.setattr(parquet, "BATCH_BYTES", 20_000)
    blocks = counted(monkeypatch)
    assert ingest(store, kit.dataset(str(tmp_path / "s.parquet"), id="{key}")).manifest.rows == 5000
    assert len(blocks) > 5 and None not in blocks


@pytest.mark.parametrize("name", ["s.csv", "s.jsonl", "s.parquet"])
def test_a_fault_of_the_fast_path_is_not_called_damage(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    if name == "s.parquet":
        pq.write_table(pa.table({"text": ["a"]}), tmp_path / name)
    else:
        (tmp_path / name).write_text('{"text":"a"}\n' if name == "s.jsonl" else "text\na\n")

    def broken(*_: Any) -> None:
        raise IndexError("a fault of ours")

    for module in (fast_jsonl, fast_separated, fast_parquet):
        monkeypatch.setattr(module, "read", broken)
    with pytest.raises(IndexError, match="a fault of ours"):
        ingest(store, kit.dataset(str(tmp_path / name)))


def test_columns_beyond_those_that_have_names_are_the_careful_readers(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(columns, "MAX_NAMED", 40)
    monkeypatch.setattr(block, "BLOCK_BYTES", 1000)
    rows = [{"text": "t", f"k{i // 10}": i} for i in range(900)]
    source = kit.write_jsonl(tmp_path / "s.jsonl", rows)
    raw = ingest(store, kit.dataset(str(source))).manifest
    assert "_other" in raw.columns and sum(one.values for one in raw.columns.values()) == 900
    with pytest.MonkeyPatch.context() as off:
        slowly(off)
        assert made(tmp_path / "careful", source, {}) == made(tmp_path / "fast", source, {})
