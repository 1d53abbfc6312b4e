"""Checks of embedding_shards: is this partition the whole, sound, comparable set of vectors it says it is?"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from embed_assets.checks.outcome import Check, CheckOutcome
from embed_worker.lake import layout
from embed_worker.lake.files import FileRef
from embed_worker.lake.integrity import file_faults, space_fault
from embed_worker.lake.manifests import MIN_COSINE, ShardManifest, Space, ensure_space, read_manifest
from embed_worker.lake.store import Store
from embed_worker.lake.table import DTYPES

NORM_TOLERANCE = {"float32": 1e-4, "float16": 2e-3}
MAX_REFUSED = 0.01
"""Share of a partition's rows, one row at least, that the engine may give no vector: more is the model's or the GPU's
fault, not the texts'."""


@dataclass(frozen=True)
class ShardView:
    """A committed shard beside what it ought to hold."""

    store: Store
    folder: str
    manifest: ShardManifest
    expected: range
    """Row ids of this partition, from the snapshot's row count and the partitioning alone."""
    proved: bool = False
    """Its files were found whole a moment ago: adoption has read every byte of them."""

    def _read(self, file: FileRef, columns: list[str]) -> pa.Table:
        with self.store.open(f"{self.folder}/{file.path}", sparse=True) as source:
            return pq.read_table(source, columns=columns)

    @cached_property
    def windows(self) -> tuple[np.ndarray, np.ndarray]:
        """row_id and chunk of every vector, in file order."""
        tables = [self._read(file, ["row_id", "chunk"]) for file in self.manifest.files]
        if not tables:
            return np.empty(0, np.int64), np.empty(0, np.int64)
        table = pa.concat_tables(tables)
        return table.column("row_id").to_numpy(), table.column("chunk").to_numpy()

    @cached_property
    def rejected(self) -> np.ndarray:
        """row_id of every reject."""
        if self.manifest.rejects is None:
            return np.empty(0, np.int64)
        found: np.ndarray = self._read(self.manifest.rejects, ["row_id"]).column("row_id").to_numpy()
        return found

    def vectors(self) -> Iterator[np.ndarray]:
        """Blocks of vectors as float32, [rows, dimension]; a null is a row of NaN."""
        for file in self.manifest.files:
            with self.store.open(f"{self.folder}/{file.path}") as source:
                for batch in pq.ParquetFile(source).iter_batches(batch_size=8192, columns=["embedding"]):
                    column = batch.column("embedding")
                    size = column.type.list_size
                    yield np.full((column.null_count, size), np.nan, dtype=np.float32)
                    yield column.flatten().to_numpy(zero_copy_only=False).astype(np.float32).reshape(-1, size)


def dimension(view: ShardView) -> CheckOutcome:
    """Every file stores vectors of the manifest's dimension and type, and the space's dimension is the same."""
    want = view.manifest.dimension
    kind = DTYPES[view.manifest.dtype]
    for file in view.manifest.files:
        with view.store.open(f"{view.folder}/{file.path}", sparse=True) as source:
            found = pq.read_schema(source).field("embedding").type
        if not pa.types.is_fixed_size_list(found):
            return CheckOutcome(False, f"{file.path}: embedding is {found}, not a fixed-size list")
        if found.list_size != want or found.value_type != kind:
            return CheckOutcome(False, f"{file.path}: {found.value_type}[{found.list_size}], not {kind}[{want}]")
    space = _space(view)
    if space is not None and want is not None and space.canaries.dimension != want:
        return CheckOutcome(False, f"dimension {want}, but the space {view.manifest.spec_id} has "
                                   f"{space.canaries.dimension}")  # fmt: skip
    return CheckOutcome(True, f"{want} × {view.manifest.dtype}", {"dimension": want, "dtype": view.manifest.dtype})


def row_count(view: ShardView) -> CheckOutcome:
    """Rows in = rows embedded + rows rejected, counted in the files."""
    embedded, rejected = len(np.unique(view.windows[0])), len(view.rejected)
    rows_in = len(view.expected)
    figures = {"rows_in": rows_in, "rows_embedded": embedded, "rows_rejected": rejected}
    said = (view.manifest.rows_in, view.manifest.rows_embedded, view.manifest.rows_rejected)
    passed = rows_in == embedded + rejected and said == (rows_in, embedded, rejected)
    text = f"{rows_in:,} in, {embedded:,} embedded, {rejected:,} rejected"
    return CheckOutcome(passed, text if passed else f"{text}; the manifest says {said}", figures)


def row_ids_exact(view: ShardView) -> CheckOutcome:
    """Every expected row is embedded or rejected, none twice; windows count up from 0, in order."""
    rows, chunks = view.windows
    expected = np.arange(view.expected.start, view.expected.stop, view.expected.step)
    present = np.concatenate([np.unique(rows), view.rejected])
    missing = np.setdiff1d(expected, present)
    foreign = np.setdiff1d(present, expected)
    doubled = len(present) - len(np.unique(present))
    new_row = np.diff(rows, prepend=-1) != 0
    step = np.diff(chunks, prepend=0)
    ordered = bool(np.all(np.diff(rows) >= 0))
    contiguous = bool(np.all(chunks[new_row] == 0) and np.all(step[~new_row] == 1))
    figures = {"missing": len(missing), "foreign": len(foreign), "doubled": doubled}
    if not (len(missing) or len(foreign) or doubled) and ordered and contiguous:
        return CheckOutcome(True, f"each of {len(expected):,} rows once, windows contiguous", figures)
    text = f"{len(missing)} rows missing, {len(foreign)} foreign, {doubled} doubled"
    if not ordered:
        text += "; rows are not in ascending order"
    elif not contiguous:
        text += "; windows of a row are missing, doubled or out of order"
    examples = [int(i) for i in np.concatenate([missing, foreign])[:10]]
    return CheckOutcome(False, text, {**figures, "examples": examples})


def finite_and_normalised(view: ShardView) -> CheckOutcome:
    """No NaN, no infinity, no zero vector; length 1 where the spec says so; next to no row refused by the engine."""
    count = bad = 0
    low, high = np.inf, -np.inf
    tolerance = NORM_TOLERANCE[view.manifest.dtype]
    for block in view.vectors():
        norms = np.linalg.norm(block, axis=1)
        wrong = ~np.isfinite(norms) | (norms == 0)
        if view.manifest.spec.normalize:
            wrong |= np.abs(norms - 1) > tolerance
        count += len(norms)
        bad += int(wrong.sum())
        finite = norms[np.isfinite(norms)]
        if len(finite):
            low, high = min(low, float(finite.min())), max(high, float(finite.max()))
    refused, rows = view.manifest.rows_refused, view.manifest.rows_in
    figures: dict[str, float] = {"vectors": count, "bad": bad, "rows_refused": refused}
    if count:
        figures |= {"norm_min": low, "norm_max": high}
    if bad:
        return CheckOutcome(False, f"{bad:,} of {count:,} vectors are not finite or not of length 1", figures)
    if refused > max(1, MAX_REFUSED * rows):
        text = f"the engine gave no vector to {refused:,} of {rows:,} rows; at most {MAX_REFUSED:.0%} is plausible"
        return CheckOutcome(False, text, figures)
    return CheckOutcome(True, f"{count:,} vectors" + (f", norms {low:.5f} to {high:.5f}" if count else ""), figures)


def files_intact(view: ShardView) -> CheckOutcome:
    """Each file has the size and sha256 that the manifest lists, and the spec's canary vectors are there and whole."""
    listed = view.manifest.listed
    faults = [] if view.proved else file_faults(view.store, view.folder, listed)
    if view.manifest.canaries is not None and (fault := space_fault(view.store, view.manifest.spec_id)):
        faults.append(fault)
    size = sum(file.bytes for file in listed)
    if faults:
        return CheckOutcome(False, faults[0], {"faults": faults[:20]})
    return CheckOutcome(True, f"{len(listed)} files, {size:,} bytes as listed", {"bytes": size})


def same_embedding_space(view: ShardView) -> CheckOutcome:
    """The canary texts got the vectors here that they got in the first shard of this spec."""
    canaries = view.manifest.canaries
    if canaries is None:
        return CheckOutcome(False, "the manifest has no canary vectors")
    space = _space(view)
    if space is None:
        ensure_space(view.store, view.manifest)
        space = _space(view)
        assert space is not None
    cosine = space.canaries.worst_cosine(canaries)
    return CheckOutcome(
        cosine >= MIN_COSINE,
        f"cosine {cosine:.6f} to the canaries of {space.made_by}; at least {MIN_COSINE} is wanted",
        {"worst_cosine": cosine, "reference": space.made_by},
    )


def _space(view: ShardView) -> Space | None:
    return read_manifest(view.store, layout.canaries_file(view.manifest.spec_id), Space)


SHARD_CHECKS: dict[str, Check[ShardView]] = {
    "dimension": dimension,
    "row_count": row_count,
    "row_ids_exact": row_ids_exact,
    "finite_and_normalised": finite_and_normalised,
    "files_intact": files_intact,
    "same_embedding_space": same_embedding_space,
}
