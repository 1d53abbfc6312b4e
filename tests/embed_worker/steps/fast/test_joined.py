"""Blocks put together: wherever a file is cut, its columns and counts are the same."""

import json
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from embed_worker.steps import filter as row_filter
from embed_worker.steps.columns import RECORD
from embed_worker.steps.fast import flat, jsonl
from embed_worker.steps.fast.block import joined_columns
from tests.kits import LONG
from tests.kits import pipelines as kit
from tests.kits.blocks import carefully, told

steady = settings(
    derandomize=not LONG, deadline=None, database=None, max_examples=1000 if LONG else 100,
    suppress_health_check=list(HealthCheck),
)  # fmt: skip
VALUES: st.SearchStrategy[Any] = st.sampled_from([None, 1, 2**53 + 1, 1.5, 5.0, True, "a", [], {"k": [1]}])
ROWS = st.lists(
    st.fixed_dictionaries({"text": st.sampled_from(["t", "", None])}, optional={"n": VALUES, "x": VALUES}),
    min_size=1,
    max_size=8,
)
PAD = "\n" * flat.MAX_KEY
"""The last bytes of a block are read line by line."""


@given(ROWS, st.integers(1, 4), st.sampled_from([{}, {"where": {"n": [1, 5, "a", True]}}]))
@steady
def test_blocks_are_the_file(rows: list[dict[str, Any]], size: int, spec: dict[str, Any]) -> None:
    rows = [{"text": "first", "n": 1}, *rows]
    pieces = ["".join(json.dumps(row) + "\n" for row in rows[at : at + size]) + PAD for at in range(0, len(rows), size)]
    careful = carefully("".join(pieces).encode(), "x.jsonl", **spec)
    assert not isinstance(careful, str)
    found = [jsonl.read(piece.encode(), kit.dataset("x.jsonl", **spec)) for piece in pieces]
    blocks = [one for one in found if one is not None]
    assert len(blocks) == len(pieces)
    columns = joined_columns(blocks)
    assert [(field.name, str(field.type)) for field in columns.schema] == [one[:2] for one in careful["columns"]]
    for name, _, values, nulled in careful["columns"]:
        assert sum(one.values.get(name, 0) for one in blocks) == values
        assert sum(one.nulled.get(name, 0) for one in blocks) == nulled
    others = columns.to_pylist() if columns.num_columns else [{}] * sum(one.own.num_rows for one in blocks)
    own: list[dict[str, Any]] = []
    before = 0
    for block in blocks:
        own += [{"id": before + row[RECORD], "text": row["text"]} for row in block.own.to_pylist()]
        before += block.records
    assert told([{**mine, **theirs} for mine, theirs in zip(own, others, strict=True)]) == careful["rows"]
    where = blocks[0].where
    for block in blocks[1:]:
        where.add(block.where)
    filtered = sum(one.filtered for one in blocks)
    assert careful["counts"] == (before - filtered, filtered, where.matched, sum(one.text_bytes for one in blocks))
    assert careful["frequent"] == row_filter.warnings(where.met)
