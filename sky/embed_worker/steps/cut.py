"""One snapshot → its strides, in one pass over the raw Parquet and in bounded memory."""

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from embed_worker.lake import failpoints, files, layout
from embed_worker.lake.files import FileRef
from embed_worker.lake.layout import Partitioning
from embed_worker.lake.manifests import StrideEntry, StridesManifest, read_manifest, write_manifest
from embed_worker.lake.snapshots import RawManifest
from embed_worker.lake.store import Store
from embed_worker.steps.rows import part_rows

COLUMNS = ["row_id", "id", "text"]
RUN_BYTES = 256 << 20
"""Rows held in memory at a time; more spill to the scratch disk as sorted runs."""
PUTS = 8
DIGEST_ROWS = 4096
"""Part of the digest's definition: never change it."""

Progress = Callable[[int], None]
"""Called with the number of strides written so far."""


@dataclass(frozen=True)
class Strided:
    """The partitioning, and whether this call made it."""

    manifest: StridesManifest
    created: bool


def write_strides(
    store: Store, raw: RawManifest, partitioning: Partitioning, progress: Progress = lambda _: None
) -> Strided:
    """Writes every stride of a snapshot, or finds them written.

    The raw files are read once: sorted runs of the rows are spilled with one record batch a stride, then
    each stride is put together from its batches.
    """
    folder = layout.strides_folder(raw.dataset, partitioning)
    manifest_path = f"{folder}/{layout.MANIFEST}"
    known = read_manifest(store, manifest_path, StridesManifest)
    if known is not None:
        return Strided(known, created=False)
    begun = time.monotonic()
    with store.scratch() as scratch:
        runs = list(_sorted_runs(store, raw, partitioning, scratch))
        failpoints.reach("strides.cut")

        def write(stride: int) -> StrideEntry:
            return _write_stride(store, folder, runs, stride, scratch)

        entries = []
        with ThreadPoolExecutor(PUTS) as pool:
            for entry in pool.map(write, range(partitioning.count)):
                entries.append(entry)
                failpoints.reach("strides.stride")
                progress(len(entries))
        for run in runs:
            run.close()
    manifest = StridesManifest(
        dataset=raw.dataset,
        snapshot=raw.snapshot,
        method=partitioning.method,
        count=partitioning.count,
        rows=raw.rows,
        input_digest=raw.digest,
        strides=entries,
        seconds=round(time.monotonic() - begun, 3),
    )
    failpoints.reach("strides.ready")
    write_manifest(store, manifest_path, manifest)
    failpoints.reach("strides.committed")
    return Strided(read_manifest(store, manifest_path, StridesManifest) or manifest, created=True)


class _Run:
    """A sorted run on the scratch disk: an Arrow file whose batch s holds the run's rows of stride s."""

    def __init__(self, path: Path, table: pa.Table, strides: np.ndarray, count: int) -> None:
        order = np.argsort(strides, kind="stable")
        bounds = np.searchsorted(strides[order], np.arange(count + 1))
        batch = table.take(order).combine_chunks().to_batches()[0]
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, batch.schema) as writer:
            for stride in range(count):
                writer.write_batch(batch.slice(bounds[stride], bounds[stride + 1] - bounds[stride]))
        self._path = path
        self._map = pa.memory_map(str(path))

    def batch(self, stride: int) -> pa.RecordBatch:
        # A reader of its own: Arrow's readers are not for several threads.
        return pa.ipc.open_file(self._map).get_batch(stride)

    def close(self) -> None:
        self._map.close()
        self._path.unlink()


def _sorted_runs(store: Store, raw: RawManifest, partitioning: Partitioning, scratch: Path) -> Iterator[_Run]:
    pending: list[pa.RecordBatch] = []
    made = held = 0

    def spill() -> _Run:
        table = pa.Table.from_batches(pending)
        strides = partitioning.stride_of(table.column("row_id").to_numpy(), raw.rows)
        return _Run(scratch / f"run-{made:05d}.arrow", table, strides, partitioning.count)

    for part in raw.parts:
        for batch in part_rows(store, raw, part, scratch, COLUMNS):
            pending.append(batch)
            held += batch.nbytes
            if held >= RUN_BYTES:
                yield spill()
                made, held, pending = made + 1, 0, []
    if pending:
        yield spill()


def _write_stride(store: Store, folder: str, runs: list[_Run], stride: int, scratch: Path) -> StrideEntry:
    table = pa.Table.from_batches([run.batch(stride) for run in runs])
    local = scratch / f"{stride:05d}.parquet"
    pq.write_table(table, local, compression="zstd", row_group_size=16_384)
    file: FileRef = files.publish(store, folder, local, f"{stride:05d}/{layout.part_name(0)}", table.num_rows)
    local.unlink(missing_ok=True)
    return StrideEntry(rows=file.rows, bytes=file.bytes, digest=content_digest(table.to_batches()), files=[file])


def content_digest(batches: Iterable[pa.RecordBatch]) -> str:
    """Digest of the rows, whatever Parquet version wrote them: rewriting a stride re-embeds nothing."""
    hasher = hashlib.sha256()
    for rows in _blocks(batches, DIGEST_ROWS):
        hasher.update(np.ascontiguousarray(rows.column("row_id").to_numpy(), dtype="<i8").tobytes())
        for name in ("id", "text"):
            values = rows.column(name).to_pylist()
            encoded = [value.encode() for value in values]
            hasher.update(np.array([len(value) for value in encoded], dtype="<i8").tobytes())
            hasher.update(b"".join(encoded))
    return hasher.hexdigest()[:16]


def _blocks(batches: Iterable[pa.RecordBatch], size: int) -> Iterator[pa.Table]:
    """The same rows, `size` at a time, however they come."""
    held: list[pa.RecordBatch] = []
    rows = 0
    for batch in batches:
        while rows + batch.num_rows >= size:
            yield pa.Table.from_batches([*held, batch.slice(0, size - rows)])
            batch, held, rows = batch.slice(size - rows), [], 0
        held.append(batch)
        rows += batch.num_rows
    if rows:
        yield pa.Table.from_batches(held)
