"""Checks of raw_reviews' rows: schema, non-empty, every row once. Part by part: each file is read once."""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from embed_assets.checks.outcome import Check, CheckOutcome
from embed_assets.checks.reading import Proofs
from embed_worker.lake.files import FileRef
from embed_worker.lake.snapshots import RawManifest, RawPart
from embed_worker.lake.store import Store
from embed_worker.steps.columns import RECORD
from embed_worker.steps.writers import own_fields


@dataclass
class RowsReading:
    """What the files of a snapshot hold, held against what it says of them."""

    faults: list[str] = field(default_factory=list)
    """One sentence for each file that is missing, cut or changed."""
    broken: set[str] = field(default_factory=set)
    """Ids of the parts whose files these are."""
    schemas: dict[str, tuple[RawPart, pa.Schema]] = field(default_factory=dict)
    rows: int = 0
    """Without those that the snapshot leaves out."""
    in_order: bool = True
    missing: int = 0
    foreign: int = 0
    doubled: int = 0
    error: Exception | None = None
    """What a reader makes of a damaged file."""


@dataclass(frozen=True)
class RowsView:
    """A snapshot, whose parts together are to hold the rows 0 to n, each once."""

    store: Store
    raw: RawManifest

    def look(self, path: Path, part: RawPart) -> None:
        """Looks at a part's file while it is here."""

    @property
    def folder(self) -> str:
        return self.raw.folder

    @cached_property
    def _read(self) -> RowsReading:
        found = RowsReading()
        proofs = Proofs(self.store, self.folder)
        owners: list[tuple[FileRef, RawPart | None]] = [(f, part) for part in self.raw.parts for f in part.listed]
        owners += [(self.raw.rejects, None)] if self.raw.rejects else []
        following = 0
        for (file, part), (_, local) in zip(owners, proofs.files([file for file, _ in owners]), strict=True):
            if len(proofs.faults) > len(found.faults) and part is not None:
                found.broken.add(part.part_id)
            found.faults = list(proofs.faults)
            if part is None or file != part.file:
                continue
            if part.first_row != following:
                found.missing += max(0, part.first_row - following)
                found.doubled += max(0, following - part.first_row)
            following = part.first_row + part.rows
            try:
                if local is None:
                    raise FileNotFoundError(f"{file.path} is missing")
                found.schemas[file.path] = part, pq.read_schema(local)
                self.look(local, part)
                self._count(found, part, pq.read_table(local, columns=[RECORD]).column(RECORD))
            except Exception as error:  # the other files are proved all the same
                found.error = found.error or error
        if following != self.raw.rows:
            found.missing += max(0, self.raw.rows - following)
            found.foreign += max(0, following - self.raw.rows)
        return found

    def _count(self, found: RowsReading, part: RawPart, column: pa.ChunkedArray) -> None:
        """A part's rows are told by their records' places: ascending, as many as its record says."""
        rows, gone = len(column), len(part.dropped_rows)
        found.rows += rows - gone
        if column.type != pa.int64():  # the check of the schema says so
            return
        records = column.to_numpy()
        strange = int(np.count_nonzero((records < 0) | (records >= part.read)))
        doubled = rows - len(np.unique(records))
        expected = part.rows + gone
        found.foreign += max(strange, rows - doubled - expected)
        found.missing += max(0, expected - (rows - strange - doubled))
        found.doubled += doubled
        found.in_order &= bool(np.all(np.diff(records) >= 0))

    @property
    def reading(self) -> RowsReading:
        """Raises what a reader made of a damaged file."""
        if self._read.error is not None:
            raise self._read.error
        return self._read

    @property
    def faults(self) -> list[str]:
        """One sentence for each file that is missing, cut or changed."""
        return self._read.faults

    @property
    def broken(self) -> set[str]:
        """Ids of the parts that these files are of."""
        return self._read.broken


def schema(view: RowsView) -> CheckOutcome:
    """Each part has our own columns in their types."""
    for path, (part, found) in view.reading.schemas.items():
        for wanted in own_fields(not part.default_ids):
            if wanted.name not in found.names:
                return CheckOutcome(False, f"{path} has no column {wanted.name}")
            if (kind := found.field(wanted.name).type) != wanted.type:
                return CheckOutcome(False, f"{path}: {wanted.name} is {kind}, not {wanted.type}")
    parts = len(view.raw.parts)
    return CheckOutcome(True, f"{parts} parts with id, text, text_key", {"parts": parts})


def non_empty(view: RowsView) -> CheckOutcome:
    """There are rows."""
    rows = view.reading.rows
    return CheckOutcome(rows > 0, f"{rows:,} rows", {"rows": rows})


def exact_cover(view: RowsView) -> CheckOutcome:
    """The parts' rows are exactly those of the snapshot: none is lost or doubled, each is in its place."""
    read, rows = view.reading, view.raw.rows
    if not (read.missing or read.foreign or read.doubled):
        if read.in_order:
            return CheckOutcome(True, f"each of {rows:,} rows once, in order", {"rows": rows})
        return CheckOutcome(False, "0 rows missing, 0 foreign, 0 doubled; not in ascending order", {"rows": rows})
    counts = {"missing": read.missing, "foreign": read.foreign, "doubled": read.doubled}
    return CheckOutcome(False, f"{read.missing} rows missing, {read.foreign} foreign, {read.doubled} doubled", counts)


def files_intact(view: RowsView) -> CheckOutcome:
    """Each file has the size and sha256 that the snapshot lists."""
    size = sum(file.bytes for file in view.raw.listed)
    if view.faults:
        return CheckOutcome(False, view.faults[0], {"faults": view.faults[:20]})
    return CheckOutcome(True, f"{len(view.raw.listed)} files, {size:,} bytes as listed", {"bytes": size})


ROW_CHECKS: dict[str, Check[RowsView]] = {
    "schema": schema,
    "non_empty": non_empty,
    "exact_cover": exact_cover,
    "files_intact": files_intact,
}
