"""A small dataset to run checks on, and changes to its shards."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from embed_assets.checks.outcome import CheckOutcome, run_checks
from embed_assets.checks.shard import SHARD_CHECKS, ShardView
from embed_worker.lake.manifests import ShardManifest
from embed_worker.lake.seal import sealed
from tests.kits import pipelines as kit

ROWS = [*kit.texts(7), {"key": "long", "text": "a long text of several windows, " * 8, "n": 7}, *kit.texts(6, 8)]


def shard_view(ready: kit.Prepared, stride: int = 1, manifest: ShardManifest | None = None) -> ShardView:
    shard = ready.job(stride).shard
    found = manifest or ready.resource.shard(shard)
    assert found is not None
    return ShardView(ready.store, shard, found, ready.expected(stride))


def run_shard(view: ShardView) -> dict[str, CheckOutcome]:
    return run_checks(SHARD_CHECKS, SHARD_CHECKS, view)


def change_shard(ready: kit.Prepared, change: Callable[[pa.Table], pa.Table]) -> None:
    path = Path(ready.store.path(f"{ready.job(1).shard.folder}/part-00000.parquet"))
    table = change(pq.read_table(path))
    path.unlink()
    pq.write_table(table, path)


def change_manifest(ready: kit.Prepared, **changes: Any) -> None:
    path = Path(ready.store.path(ready.job(1).shard.manifest_path))
    value = {**json.loads(path.read_text()), **changes}
    del value["digest"]
    path.write_bytes(sealed(ready.job(1).shard.manifest_path, value))


def column(table: pa.Table, name: str, values: Any) -> pa.Table:
    return table.set_column(table.column_names.index(name), name, values)
