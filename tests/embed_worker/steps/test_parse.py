"""The fast path and the careful one make the same parts, wherever a file is cut into ranges, blocks and parts."""

import gzip
import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from embed_worker.lake.store import Store
from embed_worker.steps import columns, opening, parse, ranges
from embed_worker.steps.errors import SourceError
from embed_worker.steps.fast import block, flat, jsonl
from embed_worker.steps.fast.block import Block
from embed_worker.steps.raw import ingest
from embed_worker.steps.readers import base
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


@given(
    lines=LINES,
    first=st.sampled_from([b'{"text":"first","key":"z","n":0,"x":true}', b'{"text":"first"}', b'{"n":"a"}']),
    spec=st.sampled_from(SPECS),
    packed=st.booleans(),
    sizes=st.tuples(st.integers(40, 900), st.integers(100, 900), st.sampled_from([1, 300, 1 << 30])),
    bounds=st.sampled_from([(1000, 500_000), (6, 500_000), (1000, 3)]),
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
    data = b"\n".join([first, *lines])
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        folder = Path(name)
        source = folder / ("s.jsonl.gz" if packed else "s.jsonl")
        source.write_bytes(gzip.compress(data) if packed else data)
        patch.setattr(flat, "MAX_KEY", 16)  # the last bytes of a block are read line by line
        patch.setattr(block, "BLOCK_BYTES", sizes[0])
        patch.setattr(opening, "HEAD", 64)
        patch.setattr(base, "BUFFER", 32)
        patch.setattr(ranges, "RANGE_BYTES", sizes[1])
        patch.setattr(parse, "PART_BYTES", sizes[2])
        patch.setattr(parse, "PART_REJECTS", bounds[1])
        patch.setattr(columns, "MAX_NAMED", bounds[0])
        fast = made(folder / "fast", source, spec)
        with pytest.MonkeyPatch.context() as off:
            slowly(off)
            careful = made(folder / "careful", source, spec)
    assert fast == careful


def counted(monkeypatch: pytest.MonkeyPatch) -> list[Block | None]:
    """The blocks that the fast path reads from now on."""
    found: list[Block | None] = []
    read = jsonl.read

    def watched(*asked: Any) -> Block | None:
        found.append(read(*asked))
        return found[-1]

    monkeypatch.setattr(jsonl, "read", watched)
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
