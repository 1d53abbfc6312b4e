"""Checks of stride_partitions: schema, non-empty, every row once."""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from embed_assets.checks.outcome import Check, CheckOutcome
from embed_assets.checks.reading import Proofs
from embed_worker.lake.files import FileRef
from embed_worker.lake.store import Store

REQUIRED = {"row_id": pa.int64(), "id": pa.string(), "text": pa.string()}


EXAMPLES = 10


@dataclass
class RowsReading:
    """What the files hold, held against the row ids that belong there: a byte a row of memory, whatever the columns."""

    faults: list[str] = field(default_factory=list)
    """One sentence for each file that is missing, cut or changed."""
    schemas: dict[str, pa.Schema] = field(default_factory=dict)
    rows: int = 0
    in_order: bool = True
    missing: int = 0
    foreign: int = 0
    doubled: int = 0
    examples: list[int] = field(default_factory=list)
    """Missing or foreign row ids."""
    error: Exception | None = None
    """What a reader makes of a damaged file."""


@dataclass(frozen=True)
class RowsView:
    """Parquet files that ought to hold exactly some row ids, in ascending order. Each is read once."""

    store: Store
    folder: str
    files: list[FileRef]
    expected: range
    rejects: FileRef | None = None

    def look(self, path: Path) -> None:
        """Looks at a file while it is here."""

    @cached_property
    def _read(self) -> RowsReading:
        found = RowsReading()
        seen = np.zeros(len(self.expected), dtype=bool)
        last = -1
        proofs = Proofs(self.store, self.folder)
        for file, local in proofs.files([file for file in [*self.files, self.rejects] if file is not None]):
            if file == self.rejects:
                continue
            try:
                if local is None:
                    raise FileNotFoundError(f"{file.path} is missing")
                found.schemas[file.path] = pq.read_schema(local)
                self.look(local)
                row_ids = pq.read_table(local, columns=["row_id"]).column("row_id").to_numpy()
            except Exception as error:  # the other files are proved all the same
                found.error = found.error or error
                continue
            found.rows += len(row_ids)
            if row_ids.dtype != np.int64:  # the check of the schema says so
                found.foreign += len(row_ids)
                continue
            found.in_order &= bool(np.all(np.diff(row_ids, prepend=last) > 0))
            last = int(row_ids[-1]) if len(row_ids) else last
            self._mark(found, seen, row_ids)
        gaps = np.flatnonzero(~seen)
        found.missing = len(gaps)
        found.examples = [*(self.expected[i] for i in gaps[:EXAMPLES]), *found.examples][:EXAMPLES]
        found.faults = proofs.faults
        return found

    def _mark(self, found: RowsReading, seen: np.ndarray, row_ids: np.ndarray) -> None:
        start, step = self.expected.start, self.expected.step
        at, off = np.divmod(row_ids - start, step)
        belongs = (off == 0) & (at >= 0) & (at < len(seen))
        at, foreign = at[belongs], row_ids[~belongs]
        new = len(np.unique(at)) - int(np.count_nonzero(seen[np.unique(at)]))
        found.doubled += len(at) - new
        found.foreign += len(foreign)
        found.examples += [int(i) for i in foreign[: EXAMPLES - len(found.examples)]]
        seen[at] = True

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


def schema(view: RowsView) -> CheckOutcome:
    """Each file has row_id, id and text in their types."""
    for path, found in view.reading.schemas.items():
        for name, kind in REQUIRED.items():
            if name not in found.names:
                return CheckOutcome(False, f"{path} has no column {name}")
            if found.field(name).type != kind:
                return CheckOutcome(False, f"{path}: {name} is {found.field(name).type}, not {kind}")
    return CheckOutcome(True, f"{len(view.files)} files with row_id, id, text", {"files": len(view.files)})


def non_empty(view: RowsView) -> CheckOutcome:
    """There are rows; a stride may be empty only where there are fewer rows than strides."""
    rows = view.reading.rows
    if rows == 0 and len(view.expected) == 0:
        return CheckOutcome(True, "no rows, and none expected: there are fewer rows than strides", {"rows": 0})
    return CheckOutcome(rows > 0, f"{rows:,} rows", {"rows": rows})


def exact_cover(view: RowsView) -> CheckOutcome:
    """The row ids are exactly those that belong here: with every partition exact, none is lost or doubled."""
    read, rows = view.reading, len(view.expected)
    if not (read.missing or read.foreign or read.doubled):
        if read.in_order:
            return CheckOutcome(True, f"each of {rows:,} rows once, in order", {"rows": rows})
        return CheckOutcome(False, "0 rows missing, 0 foreign, 0 doubled; not in ascending order", {"rows": rows})
    counts = {"missing": read.missing, "foreign": read.foreign, "doubled": read.doubled}
    text = f"{read.missing} rows missing, {read.foreign} foreign, {read.doubled} doubled"
    return CheckOutcome(False, text, {**counts, "examples": read.examples})


def files_intact(view: RowsView) -> CheckOutcome:
    """Each file has the size and sha256 that its manifest lists."""
    listed = [file for file in [*view.files, view.rejects] if file is not None]
    size = sum(file.bytes for file in listed)
    if view.faults:
        return CheckOutcome(False, view.faults[0], {"faults": view.faults[:20]})
    return CheckOutcome(True, f"{len(listed)} files, {size:,} bytes as listed", {"bytes": size})


ROW_CHECKS: dict[str, Check[RowsView]] = {
    "schema": schema,
    "non_empty": non_empty,
    "exact_cover": exact_cover,
    "files_intact": files_intact,
}
