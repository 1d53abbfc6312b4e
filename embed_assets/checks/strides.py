"""Checks of stride_partitions: each stride holds the rows that its cut counted, and the strides together all rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from embed_assets.checks.outcome import Check, CheckOutcome
from embed_worker.lake.errors import DamagedData
from embed_worker.lake.identity import RowsDigest
from embed_worker.lake.layout import DELTA
from embed_worker.lake.manifests import StrideEntry, StridesManifest
from embed_worker.lake.store import Store
from embed_worker.lake.strides import Span, bring


@dataclass(frozen=True)
class StrideView:
    """A stride, and the rows that it ought to hold. Its slices are read, as far as they are its own, once for all."""

    store: Store
    cut: StridesManifest
    stride: int
    spans: Sequence[Span]
    snapshot: RowsDigest | None
    """Of all rows of the snapshot; None where that is not held against the cut."""

    @property
    def entry(self) -> StrideEntry:
        return self.cut.strides[self.stride]

    @cached_property
    def fault(self) -> str | None:
        """What is wrong with the rows; None where they are those of the cut."""
        try:
            with self.store.scratch() as scratch:
                bring(self.store, self.spans, scratch).prove(RowsDigest.parse(self.entry.rows, self.entry.digest))
        except DamagedData as error:
            return str(error)
        return None


def non_empty(view: StrideView) -> CheckOutcome:
    """There are rows; a stride may be empty only where there are not many more rows than strides, a delta always."""
    rows, mean = view.entry.rows, view.cut.rows / view.cut.count
    if view.cut.method == DELTA:
        return CheckOutcome(True, f"{rows:,} rows were added", {"rows": rows})
    if rows == 0 and mean < SPARSE:
        return CheckOutcome(True, f"no rows: the snapshot has {mean:.1f} for each stride", {"rows": 0})
    return CheckOutcome(rows > 0, f"{rows:,} rows", {"rows": rows})


def exact_cover(view: StrideView) -> CheckOutcome:
    """The rows are those that the cut counted here, and all strides together are the snapshot's rows, each once."""
    cut, figures = view.cut, {"rows": view.entry.rows}
    if view.fault is not None:
        return CheckOutcome(False, view.fault, figures)
    if view.snapshot is not None and RowsDigest.parse(cut.rows, cut.rows_digest) != view.snapshot:
        told = (
            f"{cut.rows:,} rows with digest {cut.rows_digest}, the snapshot {view.snapshot.rows:,} with {view.snapshot}"
        )
        return CheckOutcome(False, f"the {cut.count} strides together hold {told}", figures)
    return CheckOutcome(
        True, f"{view.entry.rows:,} rows; the {cut.count} strides hold each of {cut.rows:,} once", figures
    )


def files_intact(view: StrideView) -> CheckOutcome:
    """The stride's ranges of the slices can be read, and each text is its key's."""
    if view.fault is not None:
        return CheckOutcome(False, view.fault)
    size = sum(span.length for span in view.spans)
    return CheckOutcome(True, f"{len(view.spans)} ranges of slices, {size:,} bytes", {"bytes": size})


SPARSE = 50
"""Rows a stride on the mean; of more, none is empty by chance."""

STRIDE_CHECKS: dict[str, Check[StrideView]] = {
    "non_empty": non_empty,
    "exact_cover": exact_cover,
    "files_intact": files_intact,
}
