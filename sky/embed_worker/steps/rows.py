"""The rows of a snapshot, part by part."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from embed_worker.lake import files, layout
from embed_worker.lake.identity import KEY_TYPE, text_keys
from embed_worker.lake.manifests import RawManifest, RawPart
from embed_worker.lake.store import Store

COLUMNS = ("row_id", "id", "text", "text_key")


def part_rows(
    store: Store, raw: RawManifest, part: RawPart, scratch: Path, columns: Sequence[str] = COLUMNS
) -> Iterator[pa.RecordBatch]:
    """The rows that a part gives to a snapshot, row ids dense and ascending over the snapshot."""
    local = files.fetch(store, layout.raw_folder(raw.dataset, raw.snapshot), part.file, scratch)
    for batch in pq.ParquetFile(local).iter_batches(16_384, columns=["row_id", "id", "text"]):
        keys = pa.array(text_keys(batch.column("text").to_pylist()), KEY_TYPE)
        yield batch.append_column("text_key", keys).select(list(columns))
    if not store.is_local:
        local.unlink()
