"""Checks of embedding_shards: is this partition the whole, sound, comparable set of vectors it says it is?"""

from dataclasses import dataclass
from functools import cached_property

import pyarrow as pa

from embed_assets.checks.outcome import Check, CheckOutcome
from embed_assets.checks.reading import ShardReading, UnreadableShard, read_shard
from embed_worker.lake import layout
from embed_worker.lake.identity import RowsDigest
from embed_worker.lake.integrity import space_fault
from embed_worker.lake.layout import ShardId
from embed_worker.lake.manifests import MIN_COSINE, ShardManifest, Space, ensure_space, read_manifest
from embed_worker.lake.store import Store
from embed_worker.lake.table import DTYPES

NORM_TOLERANCE = {"float32": 1e-4, "float16": 2e-3}
MAX_WITHOUT_VECTOR = 0.01
"""Share of a partition's rows, one row at least, that the engine may give no vector: more is the model's or the GPU's
fault, not the texts'."""


@dataclass(frozen=True)
class ShardView:
    """A committed shard beside what it ought to hold. Its files are read when a check asks for them, once for all."""

    store: Store
    shard: ShardId
    manifest: ShardManifest
    expected: RowsDigest
    """The rows of this partition, by the cut."""

    @cached_property
    def _read(self) -> ShardReading | UnreadableShard:
        try:
            return read_shard(self.store, self.shard.folder, self.manifest, NORM_TOLERANCE[self.manifest.dtype])
        except UnreadableShard as error:
            return error

    @property
    def reading(self) -> ShardReading:
        """Raises UnreadableShard."""
        if isinstance(self._read, UnreadableShard):
            raise self._read
        return self._read

    @property
    def faults(self) -> list[str]:
        """One sentence for each file that is missing, cut or changed."""
        return self._read.faults


def dimension(view: ShardView) -> CheckOutcome:
    """Every file stores vectors of the manifest's dimension and type, and the space's dimension is the same."""
    want = view.manifest.dimension
    kind = DTYPES[view.manifest.dtype]
    for path, found in view.reading.types.items():
        if not pa.types.is_fixed_size_list(found):
            return CheckOutcome(False, f"{path}: embedding is {found}, not a fixed-size list")
        if found.list_size != want or found.value_type != kind:
            return CheckOutcome(False, f"{path}: {found.value_type}[{found.list_size}], not {kind}[{want}]")
    space = _space(view)
    if space is not None and want is not None and space.canaries.dimension != want:
        return CheckOutcome(False, f"dimension {want}, but the space {view.manifest.shard.spec_id} has "
                                   f"{space.canaries.dimension}")  # fmt: skip
    return CheckOutcome(True, f"{want} × {view.manifest.dtype}", {"dimension": want, "dtype": view.manifest.dtype})


def row_count(view: ShardView) -> CheckOutcome:
    """Rows in = rows with vectors + rows rejected, counted in the files."""
    embedded, rejected = view.reading.rows.rows, view.reading.rejected.rows
    rows_in = view.expected.rows
    figures = {"rows_in": rows_in, "rows_with_vector": embedded, "rows_rejected": rejected}
    said = (view.manifest.rows_in, view.manifest.rows_with_vector, view.manifest.rows_rejected)
    passed = rows_in == embedded + rejected and said == (rows_in, embedded, rejected)
    text = f"{rows_in:,} in, {embedded:,} embedded, {rejected:,} rejected"
    return CheckOutcome(passed, text if passed else f"{text}; the manifest says {said}", figures)


def rows_exact(view: ShardView) -> CheckOutcome:
    """The rows embedded and rejected are the cut's, each once and whole: by a digest of their ids and texts."""
    read = view.reading
    found = read.rows + read.rejected
    figures = {"rows": found.rows}
    if found != view.expected:
        told = f"{found.rows:,} rows with digest {found}, the cut has {view.expected.rows:,} with {view.expected}"
        return CheckOutcome(False, f"rows are missing, foreign or doubled: {told}", figures)
    if not read.in_order:
        return CheckOutcome(False, "rows are not in ascending order", figures)
    if not read.contiguous:
        return CheckOutcome(False, "windows of a row are missing, doubled or out of order", figures)
    return CheckOutcome(True, f"each of {found.rows:,} rows once, windows contiguous", figures)


def finite_and_normalised(view: ShardView) -> CheckOutcome:
    """No NaN, no infinity, no zero vector; length 1 where the spec says so; nearly every row with a text has one."""
    read = view.reading
    without, rows = view.manifest.rows_without_vector, view.manifest.rows_in
    figures: dict[str, float] = {"vectors": read.vectors, "bad": read.bad, "rows_without_vector": without}
    norms = ""
    if read.norm_max >= read.norm_min:
        figures |= {"norm_min": read.norm_min, "norm_max": read.norm_max}
        norms = f", norms {read.norm_min:.5f} to {read.norm_max:.5f}"
    if read.bad:
        return CheckOutcome(
            False, f"{read.bad:,} of {read.vectors:,} vectors are not finite or not of length 1", figures
        )
    if without > max(1, MAX_WITHOUT_VECTOR * rows):
        text = f"the engine gave no vector to {without:,} of {rows:,} rows"
        return CheckOutcome(False, f"{text}; at most {MAX_WITHOUT_VECTOR:.0%} is plausible", figures)
    return CheckOutcome(True, f"{read.vectors:,} vectors{norms}", figures)


def files_intact(view: ShardView) -> CheckOutcome:
    """Each file has the size and sha256 that the manifest lists, and the spec's canary vectors are there and whole."""
    listed = view.manifest.listed
    faults = list(view.faults)
    if view.manifest.canaries is not None and (fault := space_fault(view.store, view.manifest.shard.spec_id)):
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
    return read_manifest(view.store, layout.canaries_file(view.manifest.shard.spec_id), Space)


SHARD_CHECKS: dict[str, Check[ShardView]] = {
    "dimension": dimension,
    "row_count": row_count,
    "rows_exact": rows_exact,
    "finite_and_normalised": finite_and_normalised,
    "files_intact": files_intact,
    "same_embedding_space": same_embedding_space,
}
