"""One pass over the files of a partition: each is read once, proved, and looked at while it is here."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from embed_worker.lake import files
from embed_worker.lake.files import FileRef
from embed_worker.lake.identity import RowsDigest, key_words, rows_digest
from embed_worker.lake.manifests import ShardManifest
from embed_worker.lake.store import Store

BATCH_ROWS = 8192


class Proofs:
    """The files of one folder, each brought here once; what is wrong with them gathers in `faults`."""

    def __init__(self, store: Store, folder: str) -> None:
        self._store, self._folder = store, folder
        self.faults: list[str] = []
        self.bytes = 0
        """Read so far."""

    def files(self, listed: list[FileRef]) -> Iterator[tuple[FileRef, Path | None]]:
        """Each file, whole or not, on this machine, where it is gone at the next step; None where there is none."""
        with self._store.scratch() as scratch:
            for file in listed:
                local, fault = files.bring(self._store, self._folder, file, scratch)
                if fault is not None:
                    self.faults.append(fault)
                if local is not None:
                    self.bytes += local.stat().st_size
                yield file, local
                if local is not None and not self._store.is_local:
                    local.unlink()


@dataclass
class ShardReading:
    """What a shard's files hold."""

    faults: list[str] = field(default_factory=list)
    """One sentence for each file that is missing, cut or changed."""
    bytes: int = 0
    """Read from the lake."""
    types: dict[str, pa.DataType] = field(default_factory=dict)
    """Of `embedding`, by file."""
    rows: RowsDigest = field(default_factory=RowsDigest)
    """Of the rows that have vectors."""
    rejected: RowsDigest = field(default_factory=RowsDigest)
    in_order: bool = True
    """By text_key, id and window; no window is there twice."""
    contiguous: bool = True
    """The windows of each row count up from 0."""
    vectors: int = 0
    bad: int = 0
    """Vectors that are not finite, zero, or not of length 1 where they should be."""
    norm_min: float = float("inf")
    norm_max: float = float("-inf")


def read_shard(store: Store, folder: str, manifest: ShardManifest, tolerance: float) -> ShardReading:
    """Raises what a reader makes of a damaged file; `faults` of a pass that ends are complete."""
    found = ShardReading()
    proofs = Proofs(store, folder)
    last: pa.Table | None = None
    error: Exception | None = None
    for file, local in proofs.files(manifest.listed):
        try:
            if local is None:
                raise FileNotFoundError(f"{file.path} is missing")
            if file == manifest.rejects:
                table = pq.read_table(local, columns=["id", "text_key"])
                found.rejected = rows_digest(table.column("id").to_pylist(), table.column("text_key").to_pylist())
                continue
            parquet = pq.ParquetFile(local)
            kind = found.types[file.path] = parquet.schema_arrow.field("embedding").type
            if not pa.types.is_fixed_size_list(kind):
                continue  # the check of the dimension says so
            for batch in parquet.iter_batches(BATCH_ROWS, columns=["id", "text_key", "chunk", "embedding"]):
                last = _look_at_rows(found, batch, last)
                _measure(found, batch.column("embedding"), manifest.spec.normalize, tolerance)
        except Exception as fault:  # the other files are proved all the same
            error = error or fault
    found.faults, found.bytes = proofs.faults, proofs.bytes
    if error is not None:
        raise UnreadableShard(found.faults, error)
    return found


def _look_at_rows(found: ShardReading, batch: pa.RecordBatch, last: pa.Table | None) -> pa.Table:
    """Counts the rows that begin in a batch and looks at the order of its windows; returns the last one."""
    table = pa.Table.from_batches([batch]).select(["text_key", "id", "chunk"])
    whole = table if last is None else pa.concat_tables([last, table])
    keys, ids, chunks = (whole.column(name).combine_chunks() for name in ("text_key", "id", "chunk"))
    first = chunks.to_numpy()[len(whole) - len(table) :] == 0
    begun = table.filter(pa.array(first))
    found.rows += rows_digest(begun.column("id").to_pylist(), begun.column("text_key").to_pylist())
    if last is None:
        found.contiguous &= bool(first[0])
    words = key_words(keys).astype(np.uint64)
    high, low = words[:, 0] << np.uint64(32) | words[:, 1], words[:, 2] << np.uint64(32) | words[:, 3]
    same_key = (high[1:] == high[:-1]) & (low[1:] == low[:-1])
    rises = (high[1:] > high[:-1]) | ((high[1:] == high[:-1]) & (low[1:] > low[:-1]))
    same_row = np.zeros(len(same_key), bool)
    for at in np.flatnonzero(same_key):
        before, after = ids[at].as_py().encode(), ids[at + 1].as_py().encode()
        same_row[at], rises[at] = before == after, before <= after
    found.in_order &= bool(np.all(rises))
    numbers = chunks.to_numpy()
    step = np.diff(numbers)
    found.contiguous &= bool(np.all(step[same_row] == 1) and np.all(numbers[1:][~same_row] == 0))
    return whole.slice(len(whole) - 1)


class UnreadableShard(Exception):
    """A file of the shard is no Parquet file with a shard's columns; what was proved of the files is in `faults`."""

    def __init__(self, faults: list[str], error: Exception) -> None:
        super().__init__(f"{type(error).__name__}: {error}")
        self.faults = faults


def _measure(found: ShardReading, column: pa.Array, normalize: bool, tolerance: float) -> None:
    size = column.type.list_size
    block = column.flatten().to_numpy(zero_copy_only=False).astype(np.float32).reshape(-1, size)
    norms = np.linalg.norm(block, axis=1)
    wrong = ~np.isfinite(norms) | (norms == 0)
    if normalize:
        wrong |= np.abs(norms - 1) > tolerance
    found.vectors += len(column)
    found.bad += int(wrong.sum()) + column.null_count
    finite = norms[np.isfinite(norms)]
    if len(finite):
        found.norm_min = min(found.norm_min, float(finite.min()))
        found.norm_max = max(found.norm_max, float(finite.max()))
