"""The rows of a set as the table, and an export, take them: each vector with its passage and its columns."""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from embed_assets.index.columns import ColumnFiles, StrideColumns, fields_of
from embed_worker.lake import failpoints, files, layout
from embed_worker.lake.deltas import DeltaManifest
from embed_worker.lake.errors import DamagedData, NotReady
from embed_worker.lake.identity import KEY_BYTES, KEY_TYPE, rows_digest
from embed_worker.lake.layout import Partitioning
from embed_worker.lake.manifests import StridesManifest, read_manifest
from embed_worker.lake.parallel import in_parallel
from embed_worker.lake.removed import removed_rows
from embed_worker.lake.sets import SetManifest
from embed_worker.lake.snapshots import RawManifest
from embed_worker.lake.spec import digest_of
from embed_worker.lake.strides import bring
from embed_worker.steps.spans import spans_of
from resources.lake import Lake

WINDOW = ("id", "text_key", "chunk", "char_start", "char_end")
"""Columns that are a shard's as they are."""
BATCH_ROWS, BATCH_BYTES = 8_192, 16 << 20


DELTA_UNIT = -1
"""Stride of the rows that the delta has added."""


class SetRows:
    """The vectors of a complete set, a row a window, stride by stride; a stride at a time is on this machine.

    The columns of the base's rows are the base's; those of rows that were added, the latest snapshot's.
    """

    def __init__(self, lake: Lake, found: SetManifest, columns: Mapping[str, str], scratch: Path) -> None:
        """Raises NotReady where a shard, the cut or the snapshot has changed or gone since the set was made."""
        self.set, self._lake, self._scratch = found, lake, scratch
        check_shards(lake, found)
        cut = _cut(lake, found, found.partitioning, found.snapshot)
        self._cuts = {cut.partitioning: spans_of(lake.store, cut)}
        self._units = {one.stride: (shard, one) for shard, one in found.members if shard.method != layout.DELTA}
        self.text_bytes = sum(entry.bytes for entry in cut.strides)
        """About, in all passages together."""
        if found.delta is not None and found.delta.shard is not None:
            added = _cut(lake, found, layout.WHOLE, layout.delta_name(found.snapshot, found.latest))
            self._cuts[layout.WHOLE] = spans_of(lake.store, added)
            self._units[DELTA_UNIT] = found.members[-1]
            self.text_bytes += added.strides[0].bytes
        self._removed = removed_rows(lake.store, found, cut.rows)
        self._raw = _snapshot(lake, found, found.snapshot) if columns else None
        fields = fields_of(self._raw, columns) if self._raw else []
        self._files: dict[int, ColumnFiles] = {}
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
        fields = [f"{f.name}: {f.type}" for f in self._fields]
        found = {}
        for stride, (_, one) in self._units.items():
            snapshot = self.set.latest if stride == DELTA_UNIT else self.set.snapshot
            gone = self._removed.get(stride)
            less = (
                [str(rows_digest(*(gone.column(c).to_pylist() for c in ("id", "text_key"))))]
                if gone is not None
                else []
            )
            found[stride] = digest_of([one.data_version, *less, *([snapshot, *fields] if fields else [])], length=16)
        return found

    @property
    def windows(self) -> dict[int, int]:
        """Stride → its rows here."""
        return {stride: one.windows - one.windows_removed for stride, (_, one) in self._units.items()}

    def all(self) -> Iterator[pa.RecordBatch]:
        for stride in self._units:
            yield from self.of(stride)

    def of(self, stride: int) -> Iterator[pa.RecordBatch]:
        """Raises DamagedData where a file is not the one that the set names."""
        with self._lake.store.scratch() as scratch:  # its own: a dataset's texts and vectors fill many a disk
            yield from self._of(stride, scratch)

    def _of(self, stride: int, scratch: Path) -> Iterator[pa.RecordBatch]:
        store, (shard, one) = self._lake.store, self._units[stride]
        texts = _Texts(bring(store, self._cuts[shard.partitioning][shard.stride], scratch).batches())
        columns, gone = self._columns(stride), self._removed.get(stride)
        for file in one.files:
            local = files.fetch(store, shard.folder, file, scratch)
            with pq.ParquetFile(local) as parquet:
                for batch in parquet.iter_batches(batch_size=self._size):
                    failpoints.reach("index.batch")
                    if gone is not None:
                        left_out = pc.is_in(batch.column("id"), value_set=gone.column("id").combine_chunks())
                        batch = batch.filter(pc.invert(left_out))
                    yield self._row(stride, batch, texts, columns)

    def _columns(self, stride: int) -> StrideColumns | None:
        if self._raw is None:
            return None
        which = min(stride, 0)
        if which not in self._files:
            folder = self._scratch / f"columns{which}"
            folder.mkdir()
            raw, cut = self._raw, self.set.partitioning
            if stride == DELTA_UNIT:
                raw, cut = self._latest(), layout.WHOLE
            self._files[which] = ColumnFiles(self._lake, raw, cut, self._fields, folder)
        return self._files[which].of(max(stride, 0))

    def _latest(self) -> RawManifest:
        """The latest snapshot, with those rows alone that were added."""
        snapshots = self.set.snapshot, self.set.latest
        path = layout.delta_file(self.set.dataset, self.set.ingest_id, *snapshots)
        delta = read_manifest(self._lake.store, path, DeltaManifest)
        if delta is None:
            raise NotReady(
                f"the delta of {self.set.dataset} to {self.set.latest} is gone; materialize raw_reviews again"
            )
        return _snapshot(self._lake, self.set, self.set.latest).model_copy(update={"parts": delta.parts})

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


def check_shards(lake: Lake, found: SetManifest) -> None:
    """Raises NotReady where one is not the set's any more."""
    manifests = in_parallel(lake.shard, [shard for shard, _ in found.members])
    for (shard, known), manifest in zip(found.members, manifests, strict=True):
        if manifest is None or manifest.data_version != known.data_version:
            what = "is not committed any more" if manifest is None else "was made anew"
            raise NotReady(f"{shard.key} {what} since embedding_set was made; materialize embedding_set again")


def _cut(lake: Lake, found: SetManifest, how: Partitioning, snapshot: str) -> StridesManifest:
    """A cut that a set was made of: the passages come from it."""
    folder = layout.strides_folder(found.dataset, found.ingest_id, how)
    cut = read_manifest(lake.store, layout.cut_file(folder, snapshot), StridesManifest)
    if cut is None:
        raise NotReady(
            f"stride_partitions of {found.dataset} are gone for snapshot {snapshot}; materialize them, then "
            "embedding_set"
        )
    return cut


def _snapshot(lake: Lake, found: SetManifest, snapshot: str) -> RawManifest:
    path = layout.snapshot_file(found.dataset, found.ingest_id, snapshot)
    raw = read_manifest(lake.store, path, RawManifest)
    if raw is None:
        raise NotReady(f"the snapshot {snapshot} of {found.dataset} is gone; materialize raw_reviews again")
    return raw
