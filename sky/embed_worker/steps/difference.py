"""Two snapshots → the rows that one has and the other lacks: a pass over ids and keys of the parts that differ.

Rows are told apart by 128 bits of id and text_key, in buckets of as many as memory holds.
"""

import hashlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from embed_worker.lake import failpoints, files, layout
from embed_worker.lake.deltas import REMOVED_SCHEMA, DeltaManifest, no_delta
from embed_worker.lake.errors import BadManifest, DamagedData
from embed_worker.lake.files import FileRef, fault_of
from embed_worker.lake.identity import RowsDigest, array_row_words, digest_of_words
from embed_worker.lake.manifests import read_manifest, write_manifest
from embed_worker.lake.snapshots import RawManifest, RawPart, packed_rows
from embed_worker.lake.store import Store
from embed_worker.steps.rows import part_rows

BUCKET_ROWS = 16 << 20
_ROW = np.dtype([("digest", "<u8", 2), ("at", "<i8")])
"""`at`: among all rows of its side's parts."""


def find_delta(store: Store, base: RawManifest, latest: RawManifest) -> DeltaManifest | None:
    """The delta between two snapshots, None while it is not made. Raises BadManifest."""
    if base.snapshot == latest.snapshot:
        return no_delta(base)
    path = layout.delta_file(base.dataset, base.ingest_id, base.snapshot, latest.snapshot)
    return read_manifest(store, path, DeltaManifest)


def make_delta(store: Store, base: RawManifest, latest: RawManifest) -> DeltaManifest:
    """Finds or makes it; what is damaged of it is made anew. Raises DamagedData where a part is not what its snapshot
    says."""
    path = layout.delta_file(base.dataset, base.ingest_id, base.snapshot, latest.snapshot)
    try:
        known = find_delta(store, base, latest)
    except BadManifest:
        known = None
        store.delete(path)
    if known is not None:
        broken = [file for file in known.listed if fault_of(store, known.folder, file)]
        if not broken:
            return known
        store.delete(path)  # first: it lists what is about to go
        for file in broken:
            store.delete(f"{known.folder}/{file.path}")
    begun = time.monotonic()
    with store.scratch() as scratch:
        made = _Difference(store, base, latest, scratch).made()
    made.seconds = round(time.monotonic() - begun, 3)
    failpoints.reach("delta.ready")
    write_manifest(store, made.path, made)
    failpoints.reach("delta.committed")
    return read_manifest(store, made.path, DeltaManifest) or made


@dataclass
class _Side:
    """One snapshot's parts that the other does not have."""

    raw: RawManifest
    parts: list[RawPart]

    @property
    def firsts(self) -> np.ndarray:
        """Of each part, where its rows begin among all of the side."""
        return np.cumsum([0, *(part.rows for part in self.parts)])

    @property
    def rows(self) -> int:
        return int(self.firsts[-1])

    def of_parts(self, rows: np.ndarray) -> Iterator[tuple[RawPart, np.ndarray]]:
        """Ascending rows of the side → those of each part, by their place among the part's."""
        firsts = self.firsts
        for at, part in enumerate(self.parts):
            low, high = np.searchsorted(rows, firsts[at : at + 2])
            if high > low:
                yield part, rows[low:high] - firsts[at]


class _Difference:
    def __init__(self, store: Store, base: RawManifest, latest: RawManifest, scratch: Path) -> None:
        self._store, self._base, self._latest, self._scratch = store, base, latest, scratch
        old, new = ({part.identity for part in raw.parts} for raw in (base, latest))
        self._old = _Side(base, [part for part in base.parts if part.identity not in new])
        self._new = _Side(latest, [part for part in latest.parts if part.identity not in old])

    def made(self) -> DeltaManifest:
        base, latest = self._base, self._latest
        removed, added = self._unmatched()
        gone, removed_digest, gone_ids = self._removed(removed)
        parts, total, new_ids = self._added(added)
        whole = RowsDigest.parse(base.rows, base.rows_digest) - removed_digest + total
        if whole != RowsDigest.parse(latest.rows, latest.rows_digest):
            raise DamagedData(
                f"the parts of {base.dataset} are not what their snapshots say: the rows of {base.snapshot}, less "
                f"those removed, with those added, are not the rows of {latest.snapshot}. Materialize raw_reviews of "
                f"{base.dataset} with `force`"
            )
        return DeltaManifest(
            dataset=base.dataset,
            ingest_id=base.ingest_id,
            base=base.snapshot,
            latest=latest.snapshot,
            parts=parts,
            rows=total.rows,
            rows_digest=str(total),
            rows_removed=removed_digest.rows,
            removed_digest=str(removed_digest),
            removed=gone,
            rows_changed=len(np.intersect1d(gone_ids, new_ids, assume_unique=True)),
            base_rows=base.rows,
            columns=list(latest.columns),
        )

    def _unmatched(self) -> tuple[np.ndarray, np.ndarray]:
        """Ascending rows of each side that the other lacks."""
        sides: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
        for old, new in self._buckets():
            rows = np.concatenate([old, new])
            is_new = np.repeat([False, True], [len(old), len(new)])
            order = np.lexsort((rows["digest"][:, 1], rows["digest"][:, 0]))
            digests = rows["digest"][order]
            same = (digests[1:] == digests[:-1]).all(axis=1)  # of both sides: a side has a row once
            alone = ~(np.concatenate([same, [False]]) | np.concatenate([[False], same]))
            left = order[alone[: len(order)]]
            for side, which in zip(sides, (~is_new[left], is_new[left]), strict=True):
                side.append(rows["at"][left[which]])
        removed, added = (np.sort(np.concatenate(side)) if side else np.empty(0, np.int64) for side in sides)
        return removed, added

    def _buckets(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        bits = max(0, (max(self._old.rows, self._new.rows) - 1) // BUCKET_ROWS).bit_length()
        if bits == 0:
            yield self._held(self._old), self._held(self._new)
            return
        paths = [[self._scratch / f"{side}-{at:04d}" for at in range(1 << bits)] for side in ("old", "new")]
        for of, side in zip(paths, (self._old, self._new), strict=True):
            for path in of:
                path.touch()
            for rows in self._digested(side):
                which = rows["digest"][:, 0] >> np.uint64(64 - bits)
                for at in np.unique(which):
                    with of[int(at)].open("ab") as sink:
                        rows[which == at].tofile(sink)
        for old, new in zip(*paths, strict=True):
            yield np.fromfile(old, _ROW), np.fromfile(new, _ROW)
            old.unlink()
            new.unlink()

    def _held(self, side: _Side) -> np.ndarray:
        found = list(self._digested(side))
        return np.concatenate(found) if found else np.empty(0, _ROW)

    def _digested(self, side: _Side) -> Iterator[np.ndarray]:
        at = 0
        for part in side.parts:
            for batch in part_rows(self._store, side.raw, part, self._scratch, ("id", "text_key")):
                rows = np.empty(batch.num_rows, _ROW)
                rows["digest"] = _words(batch).view("<u8").reshape(-1, 2)
                rows["at"] = np.arange(at, at + batch.num_rows)
                at += batch.num_rows
                yield rows

    def _removed(self, rows: np.ndarray) -> tuple[FileRef | None, RowsDigest, np.ndarray]:
        """Writes the removed rows down; their digest, and hashes of their ids."""
        if not len(rows):
            return None, RowsDigest(), np.empty(0, np.uint64)
        local, digest, ids = self._scratch / "removed.parquet", RowsDigest(), []
        with pq.ParquetWriter(local, REMOVED_SCHEMA, compression="zstd") as writer:
            for part, places in self._old.of_parts(rows):
                for batch in self._taken(self._old, part, places, REMOVED_SCHEMA.names):
                    writer.write_batch(batch.cast(REMOVED_SCHEMA))
                    digest += digest_of_words(_words(batch))
                    ids.append(_hashes(batch))
        name = layout.removed_file(self._base.snapshot, self._latest.snapshot)
        found = files.publish(self._store, self._base.folder, local, name, len(rows))
        failpoints.reach("delta.removed")
        return found, digest, np.concatenate(ids)

    def _added(self, rows: np.ndarray) -> tuple[list[RawPart], RowsDigest, np.ndarray]:
        """The parts with the added rows alone; their digest, and hashes of their ids."""
        parts, total, ids = list[RawPart](), RowsDigest(), [np.empty(0, np.uint64)]
        for part, places in self._new.of_parts(rows):
            digest = RowsDigest()
            for batch in self._taken(self._new, part, places, ("id", "text_key")):
                digest += digest_of_words(_words(batch))
                ids.append(_hashes(batch))
            kept = part.kept_rows
            others = np.delete(np.arange(part.rows + len(part.dropped_rows)), kept[places])
            changes = {"rows": len(places), "first_row": total.rows, "dropped": packed_rows(others)}
            parts.append(RawPart.model_validate({**part.model_dump(), **changes, "digest": str(digest)}))
            total += digest
        return parts, total, np.concatenate(ids)

    def _taken(
        self, side: _Side, part: RawPart, places: np.ndarray, columns: Sequence[str]
    ) -> Iterator[pa.RecordBatch]:
        first = 0
        for batch in part_rows(self._store, side.raw, part, self._scratch, columns):
            low, high = np.searchsorted(places, (first, first + batch.num_rows))
            if high > low:
                yield batch.take(pa.array(places[low:high] - first))
            first += batch.num_rows


def _words(batch: pa.RecordBatch) -> np.ndarray:
    return array_row_words(batch.column("id"), batch.column("text_key"))


def _hashes(batch: pa.RecordBatch) -> np.ndarray:
    hashed = (hashlib.blake2b(id_.encode(), digest_size=8).digest() for id_ in batch.column("id").to_pylist())
    return np.frombuffer(b"".join(hashed), "<u8")
