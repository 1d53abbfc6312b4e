"""A block read fast, held against what the careful readers give of the same bytes."""

import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from embed_worker.lake.identity import text_key
from embed_worker.lake.store import Store
from embed_worker.steps import filter as row_filter
from embed_worker.steps import raw as raw_step
from embed_worker.steps.columns import LINE, RECORD
from embed_worker.steps.errors import SourceError
from embed_worker.steps.fast import jsonl, parquet, separated
from embed_worker.steps.fast.block import Block
from tests.kits import pipelines as kit


def slowly(patch: pytest.MonkeyPatch) -> None:
    """Every block is for the careful reader."""
    for module in (jsonl, parquet, separated):
        patch.setattr(module, "read", lambda *_: None)


def carefully(data: bytes, name: str, **spec: Any) -> dict[str, Any] | str:
    """What the careful readers give of a file; why they refuse it."""
    with tempfile.TemporaryDirectory() as folder:
        path, store = Path(folder) / name, Store(f"{folder}/lake")
        path.write_bytes(data)
        with pytest.MonkeyPatch.context() as patch:
            slowly(patch)
            patch.setattr(raw_step, "find_twins", lambda *_: {})  # blocks leave them to the snapshot
            try:
                raw = raw_step.ingest(store, kit.dataset(str(path), **spec)).manifest
            except SourceError as error:
                return str(error)
        rows = kit.raw_rows(store, raw)
        rejects = kit.rejects(store, raw)
    for at, row in enumerate(rows):
        assert row.pop("row_id") == at
        if not spec.get("id"):
            row["id"] = int(row["id"])
    account = raw.accounts[0]
    return {
        "rows": told(rows),
        "rejects": [{name: one[name] for name in one if name != "file"} for one in rejects],
        "columns": [(name, about.type, about.values, about.nulled) for name, about in raw.columns.items()],
        "counts": (raw.records, raw.filtered, raw.matched, raw.text_bytes),
        "account": (account.unit, account.total, account.accounted, account.records, account.whole, account.notes),
        "frequent": [one for one in raw.warnings if one.startswith("where")],
    }


def quickly(block: Block, **spec: Any) -> dict[str, Any]:
    """The same of a block that is the whole file."""
    own = block.own.to_pylist()
    for row in own:
        assert row.pop("text_key") == text_key(row["text"])
        at = row.pop(RECORD)
        assert row.pop(LINE) > at
        if not spec.get("id"):
            row["id"] = at
    others = block.columns.to_pylist() if block.columns.num_columns else [{}] * len(own)
    rows = [{**mine, **theirs} for mine, theirs in zip(own, others, strict=True)]
    assert [f for f in block.columns.schema if f.name in ("id", "text", "row_id")] == []
    rejects = [asdict(one) for one in block.rejects]
    for one in rejects:
        if one.pop("readable") and not spec.get("id"):
            assert one["id"] is None
            one["id"] = str(one["record"])
    account = block.account
    return {
        "rows": told(rows),
        "rejects": rejects,
        "columns": [
            (field.name, str(field.type), block.values.get(field.name, 0), block.nulled.get(field.name, 0))
            for field in block.columns.schema
        ],
        "counts": (block.records - block.filtered, block.filtered, block.where.matched, block.text_bytes),
        "account": (account.unit, account.total, account.accounted, account.records, account.whole, account.notes),
        "frequent": row_filter.warnings(block.where.met),
    }


def told(rows: list[dict[str, Any]]) -> list[str]:
    """Told apart though NaN is no NaN, and 1 is 1.0 is True."""
    return [repr(sorted(row.items())) for row in rows]


def same(block: Block, data: bytes, name: str, **spec: Any) -> None:
    """Fails where the two ways differ. A file that is refused as a whole has no row in its block."""
    careful = carefully(data, name, **spec)
    if isinstance(careful, str):
        shown: set[str] = set().union(*block.shows)
        assert block.own.num_rows == 0 or "has no column" in careful, careful
        if "has no column" in careful:
            assert careful.split("'")[1] not in shown
        return
    quick = quickly(block, **spec)
    for part, expected in careful.items():
        assert quick[part] == expected, (part, quick[part], expected)
