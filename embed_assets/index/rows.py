"""The rows of a set as the table, and an export, take them: each vector with its passage and its columns."""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from embed_assets.index.columns import ColumnFiles, StrideColumns, fields_of
from embed_worker.lake import failpoints, files, layout
from embed_worker.lake.errors import DamagedData, NotReady
from embed_worker.lake.identity import KEY_BYTES, KEY_TYPE
from embed_worker.lake.manifests import ShardManifest, StridesManifest, read_manifest
from embed_worker.lake.parallel import in_parallel
from embed_worker.lake.sets import SetManifest
from embed_worker.lake.snapshots import RawManifest
from embed_worker.lake.spec import digest_of
from embed_worker.lake.strides import bring
from embed_worker.steps.spans import spans_of
from resources.lake import Lake

WINDOW = ("id", "text_key", "chunk", "char_start", "char_end")
"""Columns that are a shard's as they are."""
BATCH_ROWS, BATCH_BYTES = 8_192, 16 << 20


class SetRows:
    """The vectors of a complete set, a row a window, stride by stride; a stride at a time is on this machine."""

    def __init__(self, lake: Lake, found: SetManifest, columns: Mapping[str, str], scratch: Path) -> None:
        """Raises NotReady where a shard, the cut or the snapshot has changed or gone since the set was made."""
        self.set, self._lake, self._scratch = found, lake, scratch
        self._manifests = check_shards(lake, found)
        cut = _cut(lake, found)
        self._spans = spans_of(lake.store, cut)
        self.text_bytes = sum(entry.bytes for entry in cut.strides)
        """About, in all passages together."""
        self._raw = _snapshot(lake, found) if columns else None
        fields = fields_of(self._raw, columns) if self._raw else []
        self._files: ColumnFiles | None = None
        kind = pa.float16() if found.dtype == "float16" else pa.float32()
        self.schema = pa.schema(
            [
                pa.field("id", pa.string()),
                pa.field("text_key", KEY_TYPE),
                pa.field("chunk", pa.int32()),
                pa.field("char_start", pa.int32()),
                pa.field("char_end", pa.int32()),
                pa.field("passage", pa.string()),
                *fields,
                pa.field("stride", pa.int32()),
                pa.field("digest", pa.binary(KEY_BYTES)),
                pa.field("vector", pa.list_(kind, found.dimension or 1)),
            ]
        )
        self._fields = fields
        self._size = max(1, min(BATCH_ROWS, BATCH_BYTES // ((found.dimension or 1) * kind.bit_width // 8)))

    @property
    def units(self) -> dict[int, str]:
        """Stride → digest of all that it gives: equal where its rows are."""
        about = [self._raw.snapshot, *(f"{f.name}: {f.type}" for f in self._fields)] if self._raw else []
        return {shard.stride: digest_of([shard.data_version, *about], length=16) for shard in self.set.shards}

    def all(self) -> Iterator[pa.RecordBatch]:
        for shard in self.set.shards:
            yield from self.of(shard.stride)

    def of(self, stride: int) -> Iterator[pa.RecordBatch]:
        """Raises DamagedData where a file is not the one that the set names."""
        with self._lake.store.scratch() as scratch:  # its own: a dataset's texts and vectors fill many a disk
            yield from self._of(stride, scratch)

    def _of(self, stride: int, scratch: Path) -> Iterator[pa.RecordBatch]:
        store, manifest = self._lake.store, self._manifests[stride]
        texts = _Texts(bring(store, self._spans[stride], scratch).batches())
        columns = self._columns(stride)
        for file in manifest.files:
            local = files.fetch(store, manifest.shard.folder, file, scratch)
            with pq.ParquetFile(local) as parquet:
                for batch in parquet.iter_batches(batch_size=self._size):
                    failpoints.reach("index.batch")
                    yield self._row(stride, batch, texts, columns)

    def _columns(self, stride: int) -> StrideColumns | None:
        if self._raw is None:
            return None
        if self._files is None:
            self._files = ColumnFiles(self._lake, self._raw, self.set.partitioning, self._fields, self._scratch)
        return self._files.of(stride)

    def _row(
        self, stride: int, batch: pa.RecordBatch, texts: "_Texts", columns: StrideColumns | None
    ) -> pa.RecordBatch:
        own = [batch.column(name) for name in WINDOW]
        passages = texts.passages(*(column.to_pylist() for column in own[1:2] + own[3:]))
        values = columns.of(batch.column("id")) if columns is not None else []
        vectors = batch.column("embedding").cast(self.schema.field("vector").type)
        arrays = [*own, pa.array(passages, pa.string()), *values, pa.array(np.full(len(batch), stride), pa.int32())]
        return pa.RecordBatch.from_arrays([*arrays, _digests(own, values, vectors), vectors], schema=self.schema)


class _Texts:
    """The texts of a stride beside its vectors: both are ordered by text_key, so few are held at a time."""

    def __init__(self, tables: Iterator[pa.Table]) -> None:
        self._tables, self._held, self._last = tables, dict[bytes, str](), b""

    def passages(self, keys: list[bytes], starts: list[int], ends: list[int]) -> list[str]:
        if not keys:
            return []
        while self._last <= keys[-1] and (table := next(self._tables, None)) is not None:
            there = table.column("text_key").to_pylist()
            self._held.update(zip(there, table.column("text").to_pylist(), strict=True))
            self._last = there[-1] if there else self._last
        try:
            found = [self._held[key][a:b] for key, a, b in zip(keys, starts, ends, strict=True)]
        except KeyError:
            raise DamagedData("a vector's text is not in its stride; materialize stride_partitions again") from None
        self._held = {key: text for key, text in self._held.items() if key >= keys[-1]}
        return found


def _digests(own: list[pa.Array], values: list[pa.Array], vectors: pa.FixedSizeListArray) -> pa.Array:
    """128 bits of all that a row is; the passage is decided by its text's key and its place."""
    lists = [column.to_pylist() for column in (*own, *values)]
    flat = vectors.flatten().to_numpy(zero_copy_only=False)
    if not len(vectors):
        return pa.array([], pa.binary(KEY_BYTES))
    rows, found = np.ascontiguousarray(flat).reshape(len(vectors), -1).view(np.uint8), []
    for vector, *row in zip(rows, *lists, strict=True):
        digest = hashlib.blake2b(repr(row).encode(errors="surrogatepass"), digest_size=KEY_BYTES)
        digest.update(vector.data)
        found.append(digest.digest())
    return pa.array(found, pa.binary(KEY_BYTES))


def check_shards(lake: Lake, found: SetManifest) -> list[ShardManifest]:
    """As they are now: one that was repaired may have its files under other names. Raises NotReady where one is not the
    set's any more."""
    shards = [found.shard_id(one.stride) for one in found.shards]
    there = []
    for shard, known, manifest in zip(shards, found.shards, in_parallel(lake.shard, shards), strict=True):
        if manifest is None or manifest.data_version != known.data_version:
            what = "is not committed any more" if manifest is None else "was made anew"
            raise NotReady(f"{shard.key} {what} since embedding_set was made; materialize embedding_set again")
        there.append(manifest)
    return there


def _cut(lake: Lake, found: SetManifest) -> StridesManifest:
    """The cut that a set was made of: the passages come from it."""
    folder = layout.strides_folder(found.dataset, found.ingest_id, found.partitioning)
    cut = read_manifest(lake.store, layout.cut_file(folder, found.snapshot), StridesManifest)
    if cut is None:
        raise NotReady(
            f"stride_partitions of {found.dataset} are gone for snapshot {found.snapshot}; materialize them, then "
            "embedding_set"
        )
    return cut


def _snapshot(lake: Lake, found: SetManifest) -> RawManifest:
    path = layout.snapshot_file(found.dataset, found.ingest_id, found.snapshot)
    raw = read_manifest(lake.store, path, RawManifest)
    if raw is None:
        raise NotReady(f"the snapshot {found.snapshot} of {found.dataset} is gone; materialize raw_reviews again")
    return raw
