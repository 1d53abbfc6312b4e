"""One pass over the files of a partition: each is read once, proved, and looked at while it is here."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from embed_worker.lake import files
from embed_worker.lake.files import FileRef
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
    row_ids: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    windows: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    """Number of each vector's window in its row's text, beside `row_ids`, in file order."""
    rejected: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    """Row id of every reject."""
    vectors: int = 0
    bad: int = 0
    """Vectors that are not finite, zero, or not of length 1 where they should be."""
    norm_min: float = float("inf")
    norm_max: float = float("-inf")


def read_shard(store: Store, folder: str, manifest: ShardManifest, tolerance: float) -> ShardReading:
    """Raises what a reader makes of a damaged file; `faults` of a pass that ends are complete."""
    found = ShardReading()
    proofs = Proofs(store, folder)
    row_ids, windows = [found.row_ids], [found.windows]
    error: Exception | None = None
    for file, local in proofs.files(manifest.listed):
        try:
            if local is None:
                raise FileNotFoundError(f"{file.path} is missing")
            if file == manifest.rejects:
                found.rejected = pq.read_table(local, columns=["row_id"]).column("row_id").to_numpy()
                continue
            parquet = pq.ParquetFile(local)
            kind = found.types[file.path] = parquet.schema_arrow.field("embedding").type
            if not pa.types.is_fixed_size_list(kind):
                continue  # the check of the dimension says so
            for batch in parquet.iter_batches(BATCH_ROWS, columns=["row_id", "chunk", "embedding"]):
                row_ids.append(batch.column("row_id").to_numpy())
                windows.append(batch.column("chunk").to_numpy())
                _measure(found, batch.column("embedding"), manifest.spec.normalize, tolerance)
        except Exception as fault:  # the other files are proved all the same
            error = error or fault
    found.faults, found.bytes = proofs.faults, proofs.bytes
    found.row_ids, found.windows = np.concatenate(row_ids), np.concatenate(windows)
    if error is not None:
        raise UnreadableShard(found.faults, error)
    return found


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
