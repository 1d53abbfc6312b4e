"""A snapshot → its strides: each part is cut into one slice, ordered by stride; nothing is spilled, nothing merged."""

import os
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from embed_worker.lake import failpoints, files, layout
from embed_worker.lake.deltas import Rows
from embed_worker.lake.errors import BadManifest, DamagedData
from embed_worker.lake.identity import KEY_BYTES, RowsDigest, array_row_words, sums_of
from embed_worker.lake.layout import WHOLE, Partitioning
from embed_worker.lake.manifests import (
    SLICE_LINE,
    SliceManifest,
    StrideEntry,
    StridesManifest,
    read_manifest,
    write_manifest,
)
from embed_worker.lake.snapshots import RawPart
from embed_worker.lake.spec import digest_of
from embed_worker.lake.store import Store
from embed_worker.lake.strides import BATCH_BYTES, BATCH_ROWS, SCHEMA, Span, bring, order
from embed_worker.steps.claims import Claims
from embed_worker.steps.rows import part_rows

AT_ONCE = min(4, os.cpu_count() or 1)
"""Parts that are cut side by side; each is in memory as a whole."""
UNEVEN = 4
"""The largest stride may have this many times the rows of the mean before that is told."""

Progress = Callable[[int, int], None]
"""Called with the slices that are there, and all of them."""


@dataclass(frozen=True)
class Strided:
    """The cut, and whether this call made it."""

    manifest: StridesManifest
    created: bool


def write_strides(
    store: Store, raw: Rows, partitioning: Partitioning, progress: Progress = lambda done, all_: None
) -> Strided:
    """Cuts a snapshot, or what a delta adds; or finds it cut. Only the slices that are missing are made; who else cuts
    at the same time makes others of them.

    Raises DamagedData where a part is not what the snapshot says.
    """
    folder = layout.strides_folder(raw.dataset, raw.ingest_id, partitioning)
    if not raw.rows:  # of an empty delta: there is nothing to commit
        return Strided(empty_cut(raw), created=False)
    path = layout.cut_file(folder, raw.snapshot)
    if (known := read_manifest(store, path, StridesManifest)) is not None:
        return Strided(known, created=False)
    begun = time.monotonic()
    slices = _Cut(store, raw, partitioning, folder).slices(progress)
    failpoints.reach("strides.cut")
    manifest = _manifest(raw, partitioning, slices, round(time.monotonic() - begun, 3))
    failpoints.reach("strides.ready")
    write_manifest(store, path, manifest)
    failpoints.reach("strides.committed")
    return Strided(read_manifest(store, path, StridesManifest) or manifest, created=True)


def empty_cut(raw: Rows) -> StridesManifest:
    """Of a delta that adds nothing."""
    return _manifest(raw, WHOLE, [], 0.0)


def retire_slices(store: Store, cut: StridesManifest, spans: Sequence[Span]) -> list[str]:
    """Takes the commits of slices back whose rows are not what these spans say, and the cut's with them; what is wrong
    with each."""
    found = []
    with store.scratch() as scratch:
        for span in spans:
            try:
                bring(store, [span], scratch).prove(RowsDigest.parse(span.rows, span.digest))
            except DamagedData as error:
                found.append(str(error))
                name = span.path.rsplit("/", 1)[-1].split(".", 1)[0]
                store.delete(layout.slice_file(cut.folder, name))
    if found:
        store.delete(layout.cut_file(cut.folder, cut.snapshot))
    return found


def slice_id(raw: Rows, part: RawPart, partitioning: Partitioning) -> str:
    """Digest of what decides a slice: the part's rows, and their place where the method goes by it."""
    place: list[int] = []
    if partitioning.method == "stride":
        place = [part.first_row % partitioning.count]
    elif partitioning.method == "contiguous":
        place = [part.first_row, raw.rows]
    return digest_of([part.identity, partitioning.name, *place], length=16)


class _Cut:
    def __init__(self, store: Store, raw: Rows, partitioning: Partitioning, folder: str) -> None:
        self._store, self._raw, self._partitioning, self._folder = store, raw, partitioning, folder

    def slices(self, progress: Progress) -> list[SliceManifest]:
        """Of each part that has rows, in order."""
        parts = {slice_id(self._raw, part, self._partitioning): part for part in self._raw.parts if part.rows}
        found: dict[str, SliceManifest] = {}
        for known in self._known(parts):
            found[known.slice_id] = known
        claims = Claims(self._store, f"{self._folder}/slices")
        with ThreadPoolExecutor(AT_ONCE) as pool:
            missing = [name for name in parts if name not in found]
            for made in pool.map(lambda name: self._one(name, parts[name], claims), missing):
                found[made.slice_id] = made
                failpoints.reach("strides.slice")
                progress(len(found), len(parts))
        return [found[name] for name in parts]

    def _known(self, wanted: dict[str, RawPart]) -> Iterator[SliceManifest]:
        there = {name.removesuffix(".json") for name in self._store.list(f"{self._folder}/slices")}
        with ThreadPoolExecutor(16) as pool:
            yield from filter(None, pool.map(self._read, [name for name in wanted if name in there]))

    def _read(self, name: str) -> SliceManifest | None:
        path = layout.slice_file(self._folder, name)
        try:
            return read_manifest(self._store, path, SliceManifest)
        except BadManifest:
            self._store.delete(path)  # made anew from its part: it is no commit of anything else
            return None

    def _one(self, name: str, part: RawPart, claims: Claims) -> SliceManifest:
        while not claims.take(name):
            if (theirs := self._read(name)) is not None:
                return theirs
        try:
            return self._read(name) or self._make(name, part)
        finally:
            claims.release(name)

    def _make(self, name: str, part: RawPart) -> SliceManifest:
        with self._store.scratch() as scratch:
            table = pa.Table.from_batches(list(part_rows(self._store, self._raw, part, scratch)))
            local = scratch / f"{name}.arrow"
            lines = write_slice(local, table, self._partitioning, self._raw.rows)
            failpoints.reach("slice.written")
            own = f"slices/{name}.{uuid.uuid4().hex[:12]}.arrow"
            file = files.describe(local, own, table.num_rows)
            self._store.create_file(f"{self._folder}/{own}", local)
        failpoints.reach("slice.published")
        made = SliceManifest.of(name, file, lines)
        path = layout.slice_file(self._folder, name)
        write_manifest(self._store, path, made)
        first = read_manifest(self._store, path, SliceManifest)
        if first is None or first.file.path != own:
            self._store.delete(f"{self._folder}/{own}")  # another's was first
        failpoints.reach("slice.committed")
        return first or made


def write_slice(local: Path, table: pa.Table, partitioning: Partitioning, rows: int) -> np.ndarray:
    """Rows of a part into an Arrow file ordered by stride, text_key and id; where each stride lies in it."""
    strides = partitioning.stride_of(table.column("row_id").to_numpy(), table.column("text_key"), rows)
    at = order(table.column("text_key"), table.column("id"), strides)
    table = table.select(SCHEMA.names).take(at).cast(SCHEMA).combine_chunks()
    bounds = np.searchsorted(strides[at], np.arange(partitioning.count + 1))
    lines = np.zeros(partitioning.count, SLICE_LINE)
    lines["rows"] = np.diff(bounds)
    lines["digest"] = sums_of(array_row_words(table.column("id"), table.column("text_key")), bounds)
    step = max(1, min(BATCH_ROWS, BATCH_BYTES * table.num_rows // max(table.nbytes, 1)))
    # A batch holds few rows where there are many strides: zstd would take three times as long.
    options = pa.ipc.IpcWriteOptions(compression="lz4", use_threads=False)
    with pa.OSFile(str(local), "wb") as sink, pa.ipc.new_file(sink, SCHEMA, options=options) as writer:
        writer.write_batch(pa.RecordBatch.from_pylist([], SCHEMA))  # the head of the file comes with the first
        for stride in np.flatnonzero(lines["rows"]):
            lines["offset"][stride] = sink.tell()
            for begin in range(bounds[stride], bounds[stride + 1], step):
                for batch in table.slice(begin, min(step, bounds[stride + 1] - begin)).to_batches():
                    writer.write_batch(batch)
            lines["length"][stride] = sink.tell() - lines["offset"][stride]
    return lines


def _manifest(raw: Rows, partitioning: Partitioning, slices: list[SliceManifest], seconds: float) -> StridesManifest:
    count = partitioning.count
    rows, size = np.zeros(count, np.int64), np.zeros(count, np.int64)
    sums = np.zeros((count, KEY_BYTES // 4), np.uint64)
    for one in slices:
        lines = one.lines
        rows += lines["rows"]
        size += lines["length"]
        sums += lines["digest"]
    digests = [RowsDigest.of_sums(int(n), words) for n, words in zip(rows, sums, strict=True)]
    whole = sum(digests, RowsDigest())
    if whole != RowsDigest.parse(raw.rows, raw.rows_digest):
        raise DamagedData(f"the slices of snapshot {raw.snapshot} do not hold the rows that it counted")
    warnings = []
    if count > 1 and (largest := int(rows.max())) > UNEVEN * max(raw.rows / count, 1):
        warnings.append(
            f"stride {int(rows.argmax())} has {largest:,} of {raw.rows:,} rows, {largest * count / raw.rows:.1f} times "
            "the mean: one text stands in very many rows. `partitioning: stride` cuts evenly"
        )
    return StridesManifest(
        dataset=raw.dataset,
        ingest_id=raw.ingest_id,
        snapshot=raw.snapshot,
        method=partitioning.method,
        count=count,
        rows=raw.rows,
        rows_digest=str(whole),
        slices=[one.slice_id for one in slices],
        strides=[
            StrideEntry(rows=int(r), bytes=int(b), digest=str(d)) for r, b, d in zip(rows, size, digests, strict=True)
        ],
        warnings=warnings,
        seconds=seconds,
    )
