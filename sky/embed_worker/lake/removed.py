"""The rows of a base that a set leaves out, and how many vectors they have in its shards."""

import bisect
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from embed_worker.lake import files
from embed_worker.lake.files import FileRef
from embed_worker.lake.layout import Partitioning, raw_folder
from embed_worker.lake.sets import SetManifest
from embed_worker.lake.store import Store


def read_removed(store: Store, dataset: str, ingest_id: str, file: FileRef) -> pa.Table:
    """See REMOVED_SCHEMA. Raises DamagedData where the file is not the one that was committed."""
    with store.scratch() as scratch:
        return pq.read_table(files.fetch(store, raw_folder(dataset, ingest_id), file, scratch), memory_map=False)


def removed_ids(store: Store, published: SetManifest) -> pa.ChunkedArray:
    """Ids of the base's rows that a set leaves out; of all its shards but the delta's."""
    if published.delta is None or published.delta.removed is None:
        return pa.chunked_array([], pa.string())
    return read_removed(store, published.dataset, published.ingest_id, published.delta.removed).column("id")


def removed_rows(store: Store, published: SetManifest, base_rows: int) -> dict[int, pa.Table]:
    """Stride → rows of the base that a set leaves out there."""
    if published.delta is None or published.delta.removed is None:
        return {}
    removed = read_removed(store, published.dataset, published.ingest_id, published.delta.removed)
    return by_stride(removed, published.partitioning, base_rows)


def by_stride(removed: pa.Table, partitioning: Partitioning, base_rows: int) -> dict[int, pa.Table]:
    """The removed rows of each stride that has any, in the order of text_key."""
    keys = removed.column("text_key").combine_chunks()
    strides = partitioning.stride_of(removed.column("row_id").to_numpy(), keys, base_rows)
    each = ((int(stride), removed.filter(pa.array(strides == stride))) for stride in np.unique(strides))
    return {stride: rows.sort_by("text_key") for stride, rows in each}


def count_removed(store: Store, folder: str, listed: Sequence[FileRef], removed: pa.Table) -> tuple[int, int]:
    """Rows and windows that a shard has of rows that were removed. Reads ids, of the row groups that may have them."""
    rows = windows = 0
    ids, keys = removed.column("id"), [key.as_py() for key in removed.column("text_key")]
    for file in listed:
        with store.open(f"{folder}/{file.path}") as source:
            parquet = pq.ParquetFile(source)
            groups = [at for at in range(parquet.num_row_groups) if _may_have(parquet.metadata.row_group(at), keys)]
            if not groups:
                continue
            for batch in parquet.iter_batches(columns=["id", "chunk"], row_groups=groups):
                gone = batch.filter(pc.is_in(batch.column("id"), value_set=ids.combine_chunks()))
                windows += gone.num_rows
                rows += pc.sum(pc.equal(gone.column("chunk"), 0)).as_py() or 0
    return rows, windows


def _may_have(group: Any, keys: list[bytes]) -> bool:
    """Whether one of the ascending keys lies between the least and the greatest of a row group."""
    for at in range(group.num_columns):
        column = group.column(at)
        if column.path_in_schema == "text_key" and column.statistics is not None and column.statistics.has_min_max:
            place = bisect.bisect_left(keys, column.statistics.min)
            return place < len(keys) and keys[place] <= column.statistics.max
    return True
