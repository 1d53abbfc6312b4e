"""An earlier shard as a source of vectors: whether it may be one, which of its windows are wanted, their copy."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from embed_worker.lake import failpoints, files
from embed_worker.lake.errors import BadManifest, DamagedData, StoreAway, StoreUnavailable
from embed_worker.lake.files import FileRef
from embed_worker.lake.identity import sortable
from embed_worker.lake.layout import ShardId
from embed_worker.lake.manifests import MIN_COSINE, ShardManifest, Space, read_manifest
from embed_worker.lake.store import Store
from embed_worker.lake.table import DTYPES

BATCH_ROWS = 4096
KEYS = ["text_key", "chunk"]
COLUMNS = [*KEYS, "n_tokens", "char_start", "char_end", "embedding"]
WORTH_WHOLE = 0.5
"""Share of a file's bytes from which it is read whole, and held against its sha256."""
UNREADABLE = (pa.ArrowException, OSError, ValueError, LookupError, OverflowError, MemoryError, DamagedData)
"""What readers make of a file that is gone, cut or changed."""


class Unusable(Exception):
    """A shard whose vectors are not taken, and why."""


@dataclass(frozen=True)
class Base:
    """An earlier shard whose canaries are those of the space, and whose files have the sizes that it says."""

    shard: ShardId
    manifest: ShardManifest
    dimension: int

    def record(self) -> np.dtype[Any]:
        """Of a window on the scratch disk."""
        kind = np.dtype(DTYPES[self.manifest.dtype].to_pandas_dtype())
        places = [(name, np.int32) for name in ("n_tokens", "char_start", "char_end")]
        return np.dtype([*places, ("vector", kind, (self.dimension,))])


@dataclass(frozen=True)
class Hits:
    """Windows of a base that are wanted, in the base's order: of each text, those of one row."""

    wanted: np.ndarray
    """Place of the window's text among the wanted."""
    chunk: np.ndarray
    file: np.ndarray
    group: np.ndarray
    row: np.ndarray
    """In the row group."""


@contextmanager
def trusting() -> Iterator[None]:
    """Turns whatever is wrong with a base into Unusable. A lake that does not answer is no fault of the base."""
    try:
        yield
    except StoreAway:
        raise
    except (*UNREADABLE, BadManifest, StoreUnavailable) as error:
        raise Unusable(
            f"{type(error).__name__}: {error}" if isinstance(error, pa.ArrowException) else str(error)
        ) from error


def open_base(store: Store, shard: ShardId, space: Space) -> Base:
    """Raises Unusable."""
    with trusting():
        manifest = read_manifest(store, shard.manifest_path, ShardManifest)
        if manifest is None:
            raise Unusable("it is not committed, or is gone")
        if manifest.shard != shard or manifest.spec.spec_id != shard.spec_id:
            raise Unusable("its manifest is of another shard")
        if manifest.canaries is None:
            raise Unusable("it has no canary vectors")
        cosine = space.canaries.worst_cosine(manifest.canaries)
        if not cosine >= MIN_COSINE:
            raise Unusable(f"its canaries are not of the space: cosine {cosine:.4f}, {MIN_COSINE} is wanted")
        dimension = manifest.canaries.dimension
        if manifest.dimension not in (None, dimension):
            raise Unusable(f"its vectors have {manifest.dimension} components, its canaries {dimension}")
        there = {file.path: file.bytes for file in store.listing(shard.folder)}
        for file in manifest.listed:
            size = there.get(f"{shard.folder}/{file.path}")
            if size != file.bytes:
                found = "is missing" if size is None else f"has {size} bytes, its manifest says {file.bytes}"
                raise Unusable(f"{file.path} {found}")
        return Base(shard, manifest, dimension)


def find(store: Store, base: Base, wanted: np.ndarray) -> Hits:
    """Of texts by their sorted keys. Reads the keys of row groups that may hold one. Raises Unusable."""
    found: list[tuple[np.ndarray, ...]] = []
    with trusting():
        for number, file in enumerate(base.manifest.files):
            with _ranges_of(store, base, file) as parquet:
                last, ordinal = np.array([b""], wanted.dtype), 0
                for group in _groups(parquet, wanted):
                    table = parquet.read_row_group(group, KEYS)
                    _check_length(table, parquet, group)
                    keys, chunks = sortable(table.column("text_key")), table.column("chunk").to_numpy()
                    if not len(keys):
                        continue
                    ordinals = _ordinals(keys, chunks, ordinal if keys[0] == last[0] else 0)
                    if keys[0] < last[0] or (keys[1:] < keys[:-1]).any():
                        raise Unusable(f"the rows of {file.path} are not in order")
                    last, ordinal = keys[-1:], int(ordinals[-1])
                    at = np.minimum(np.searchsorted(wanted, keys), len(wanted) - 1)
                    rows = np.flatnonzero((ordinals == 1) & (wanted[at] == keys))
                    if len(rows):
                        places = (np.full(len(rows), place) for place in (number, group))
                        found.append((at[rows], chunks[rows], *places, rows))
    hits = Hits(*(np.concatenate(column) for column in zip(*found, strict=True))) if found else _nothing()
    begins = np.flatnonzero(np.diff(hits.wanted, prepend=-1))
    counts = np.diff(begins, append=len(hits.wanted))
    if (hits.chunk != np.arange(len(hits.wanted)) - np.repeat(begins, counts)).any():
        raise Unusable("windows of a row are missing, doubled or out of order")
    if len(np.unique(hits.wanted)) != len(begins):
        raise Unusable("its rows are not in order")
    return hits


def copy(store: Store, base: Base, hits: Hits, wanted: np.ndarray, scratch: Path, sink: IO[bytes]) -> None:
    """Appends the windows to a file of records. Raises Unusable, whatever is written by then."""
    with trusting():
        for number in np.unique(hits.file).tolist():
            of_file = np.flatnonzero(hits.file == number)
            file = base.manifest.files[number]
            with _proven(store, base, file, np.unique(hits.group[of_file]).tolist(), scratch) as parquet:
                for group in np.unique(hits.group[of_file]).tolist():
                    _copy_group(base, parquet, group, hits, of_file[hits.group[of_file] == group], wanted, sink)
            failpoints.reach("reuse.copied")


def _copy_group(
    base: Base, parquet: pq.ParquetFile, group: int, hits: Hits, of: np.ndarray, wanted: np.ndarray, sink: IO[bytes]
) -> None:
    begin, rows = 0, hits.row[of]
    for batch in parquet.iter_batches(BATCH_ROWS, row_groups=[group], columns=COLUMNS):
        low, high = np.searchsorted(rows, [begin, begin + len(batch)])
        taken, begin = batch.take(pa.array(rows[low:high] - begin)), begin + len(batch)
        if not len(taken):
            continue
        taken.validate(full=True)
        here = of[low:high]
        same = sortable(taken.column("text_key")) == wanted[hits.wanted[here]]
        if not same.all() or (taken.column("chunk").to_numpy() != hits.chunk[here]).any():
            raise Unusable("it holds other rows than its keys said a moment ago")
        records = np.empty(len(taken), base.record())
        for name in ("n_tokens", "char_start", "char_end"):
            records[name] = taken.column(name).to_numpy()
        records["vector"] = taken.column("embedding").flatten().to_numpy().reshape(-1, base.dimension)
        if not np.isfinite(records["vector"]).all():
            raise Unusable("it holds a vector that is not finite")
        sink.write(records.tobytes())
    if begin != parquet.metadata.row_group(group).num_rows:
        raise Unusable("a row group is shorter than its file says")


def without_tokens(store: Store, base: Base, scratch: Path) -> np.ndarray:
    """Sorted keys of the texts of which the spec's tokenizer makes nothing. Raises Unusable."""
    rejects = base.manifest.rejects
    if rejects is None or not base.manifest.rejects_by_reason.get("no tokens"):
        return np.array([], "S16")
    with trusting():
        table = pq.read_table(files.fetch(store, base.shard.folder, rejects, scratch))
        reasons = np.array(table.column("reason").to_pylist())
        keys: np.ndarray = np.unique(sortable(table.column("text_key"))[reasons == "no tokens"])
        return keys


def _nothing() -> Hits:
    return Hits(*(np.array([], np.int64) for _ in range(5)))


def _ordinals(keys: np.ndarray, chunks: np.ndarray, before: int) -> np.ndarray:
    """Of each window, which row with its text it belongs to: 1 for the first. `before`: rows of the first text that the
    row group before has."""
    starts = chunks == 0
    counted = np.cumsum(starts)
    changes = np.concatenate([[True], keys[1:] != keys[:-1]])
    until = (counted - starts)[changes]
    until[0] -= before
    found: np.ndarray = counted - until[np.cumsum(changes) - 1]
    return found


def _groups(parquet: pq.ParquetFile, wanted: np.ndarray) -> Iterator[int]:
    """Row groups whose statistics do not rule out every wanted key."""
    about = parquet.metadata
    column = parquet.schema_arrow.names.index("text_key")
    for group in range(about.num_row_groups):
        told = about.row_group(group).column(column).statistics
        if told is None or not told.has_min_max:
            yield group
            continue
        low = np.searchsorted(wanted, np.array([told.min], wanted.dtype), "left")[0]
        high = np.searchsorted(wanted, np.array([told.max], wanted.dtype), "right")[0]
        if low < high:
            yield group


@contextmanager
def _ranges_of(store: Store, base: Base, file: FileRef) -> Iterator[pq.ParquetFile]:
    """A file of which some ranges are read: their pages' checksums prove them."""
    with store.open(f"{base.shard.folder}/{file.path}", sparse=True) as source:
        yield _checked(pq.ParquetFile(source, page_checksum_verification=True), base, file)


@contextmanager
def _proven(store: Store, base: Base, file: FileRef, groups: list[int], scratch: Path) -> Iterator[pq.ParquetFile]:
    """A file of which some row groups are copied."""
    with _ranges_of(store, base, file) as parquet:
        wanted = sum(
            about.column(column).total_compressed_size
            for about in map(parquet.metadata.row_group, groups)
            for column in range(about.num_columns)
        )
        if wanted < WORTH_WHOLE * file.bytes:
            yield parquet
            return
    local = files.fetch(store, base.shard.folder, file, scratch)
    try:
        yield _checked(pq.ParquetFile(local, page_checksum_verification=True), base, file)
    finally:
        if not store.is_local:
            local.unlink(missing_ok=True)


def _checked(parquet: pq.ParquetFile, base: Base, file: FileRef) -> pq.ParquetFile:
    kinds = {name: parquet.schema_arrow.field(name).type for name in COLUMNS}
    vector = kinds["embedding"]
    if not pa.types.is_fixed_size_list(vector) or (vector.list_size, vector.value_type) != (
        base.dimension,
        DTYPES[base.manifest.dtype],
    ):
        raise Unusable(f"{file.path} holds {vector}, not {base.manifest.dtype}[{base.dimension}]")
    if parquet.metadata.num_rows != file.rows:
        raise Unusable(f"{file.path} has {parquet.metadata.num_rows} rows, its manifest says {file.rows}")
    return parquet


def _check_length(table: pa.Table, parquet: pq.ParquetFile, group: int) -> None:
    table.validate(full=True)
    if table.num_rows != parquet.metadata.row_group(group).num_rows:
        raise Unusable("a row group is shorter than its file says")
