"""Checks of raw_reviews and stride_partitions: schema, non-empty, every row once."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from embed_assets.checks.outcome import Check, CheckOutcome
from embed_worker.lake.files import FileRef
from embed_worker.lake.integrity import file_faults
from embed_worker.lake.store import Store

REQUIRED = {"row_id": pa.int64(), "id": pa.string(), "text": pa.string()}


@dataclass(frozen=True)
class RowsView:
    """Parquet files that ought to hold exactly some row ids, in ascending order."""

    store: Store
    folder: str
    files: list[FileRef]
    expected: range
    rejects: FileRef | None = None

    @cached_property
    def row_ids(self) -> np.ndarray:
        found = []
        for file in self.files:
            with self.store.open(f"{self.folder}/{file.path}") as source:
                found.append(pq.read_table(source, columns=["row_id"]).column("row_id").to_numpy())
        return np.concatenate(found) if found else np.empty(0, dtype=np.int64)


def schema(view: RowsView) -> CheckOutcome:
    """Each file has row_id, id and text in their types, and the files agree with each other."""
    first: pa.Schema | None = None
    for file in view.files:
        with view.store.open(f"{view.folder}/{file.path}") as source:
            found = pq.read_schema(source)
        for name, kind in REQUIRED.items():
            if name not in found.names:
                return CheckOutcome(False, f"{file.path} has no column {name}")
            if found.field(name).type != kind:
                return CheckOutcome(False, f"{file.path}: {name} is {found.field(name).type}, not {kind}")
        first = first or found
        if not found.equals(first):
            return CheckOutcome(False, f"{file.path} has other columns than {view.files[0].path}")
    return CheckOutcome(True, f"{len(view.files)} files with row_id, id, text", {"files": len(view.files)})


def non_empty(view: RowsView) -> CheckOutcome:
    """There are rows; a stride may be empty only where there are fewer rows than strides."""
    rows = len(view.row_ids)
    if rows == 0 and len(view.expected) == 0:
        return CheckOutcome(True, "no rows, and none expected: there are fewer rows than strides", {"rows": 0})
    return CheckOutcome(rows > 0, f"{rows:,} rows", {"rows": rows})


def exact_cover(view: RowsView) -> CheckOutcome:
    """The row ids are exactly those that belong here: with every partition exact, none is lost or doubled."""
    expected = np.arange(view.expected.start, view.expected.stop, view.expected.step)
    found = view.row_ids
    if np.array_equal(found, expected):
        return CheckOutcome(True, f"each of {len(expected):,} rows once, in order", {"rows": len(expected)})
    missing = np.setdiff1d(expected, found)
    foreign = np.setdiff1d(found, expected)
    doubled = len(found) - len(np.unique(found))
    return CheckOutcome(
        False,
        f"{len(missing)} rows missing, {len(foreign)} foreign, {doubled} doubled"
        + ("" if len(missing) or len(foreign) or doubled else "; not in ascending order"),
        {
            "missing": len(missing),
            "foreign": len(foreign),
            "doubled": doubled,
            "examples": [int(i) for i in np.concatenate([missing, foreign])[:10]],
        },
    )


def files_intact(view: RowsView) -> CheckOutcome:
    """Each file has the size and sha256 that its manifest lists."""
    listed = [file for file in [*view.files, view.rejects] if file is not None]
    faults = file_faults(view.store, view.folder, listed)
    size = sum(file.bytes for file in listed)
    if faults:
        return CheckOutcome(False, faults[0], {"faults": faults[:20]})
    return CheckOutcome(True, f"{len(listed)} files, {size:,} bytes as listed", {"bytes": size})


ROW_CHECKS: dict[str, Check[RowsView]] = {
    "schema": schema,
    "non_empty": non_empty,
    "exact_cover": exact_cover,
    "files_intact": files_intact,
}
