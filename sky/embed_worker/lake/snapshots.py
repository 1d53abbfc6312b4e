"""raw_reviews: the records of parts, each a range of a source file read once, and the snapshots that list them."""

import base64
import hashlib
import zlib
from functools import cached_property
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from embed_worker.lake import layout
from embed_worker.lake.files import FileRef
from embed_worker.lake.manifests import Manifest, read_manifest
from embed_worker.lake.reading import Readable
from embed_worker.lake.spec import digest_of


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Pointer(_Frozen):
    """`_base.json` and `_latest.json`: a snapshot of a dataset."""

    snapshot: str = Field(pattern=r"^[0-9a-f]+$")


class Account(_Frozen):
    """What a range of a source holds, counted beside the reader, and what the reader made of it."""

    unit: str = "lines"
    """`lines`, `rows`, or `bytes` where JSON is no lines."""
    total: int = 0
    """Counted without parsing."""
    accounted: int = 0
    """Of these, those that are in a record, in the header, or between records."""
    records: int = 0
    whole: bool = False
    """False where `rows` ended the reading before the end."""
    notes: dict[str, int] = Field(default_factory=dict)


class SourceAccount(Account):
    """The account of a file, over its ranges."""

    url: str


class ColumnFigures(_Frozen):
    """A column beside our own."""

    type: str
    """One that holds the values of all parts; a part's own may be narrower."""
    values: int
    """Values that the rows had in the source."""
    nulled: int = 0
    """Of these, those that no reader has a form for: stored as null."""


class FirstReject(_Frozen):
    """One of the first records that a part set aside."""

    line: int
    reason: str
    detail: str
    excerpt: str


class SeenInJson(_Frozen):
    """Which of the columns that templates name the records have."""

    missing: list[str] = Field(default_factory=list)
    known: dict[str, str] = Field(default_factory=dict)
    by_columns: str = ""


class Filtered(_Frozen):
    """What `where` met."""

    matched: dict[str, dict[str, int]] = Field(default_factory=dict)
    """Records that each value matched, by column."""
    unseen: list[str] = Field(default_factory=list)
    """Columns that no record had."""
    frequent: dict[str, dict[str, int]] = Field(default_factory=dict)
    """The most frequent values of a column of which a value matched nothing."""


class PartRecord(Manifest):
    """Commit of a part. Nothing in it depends on where the part stands in its file or its dataset."""

    part_id: str = Field(pattern=r"^[0-9a-f]+$")
    index: int
    """Place among the parts of its range: a range that cannot be cut gives several."""
    last: bool
    """The range ends with it."""
    file: FileRef
    rejects: FileRef | None = None
    read: int
    """Records, whatever became of them."""
    rows: int
    rejects_by_reason: dict[str, int] = Field(default_factory=dict)
    first_rejects: list[FirstReject] = Field(default_factory=list)
    filtered: int = 0
    outside: int = 0
    account: Account
    """Of the whole range, in its last part."""
    columns: dict[str, ColumnFigures] = Field(default_factory=dict)
    wide: list[str] = Field(default_factory=list)
    """Columns with values that another type of their kind would not hold: integers beyond 2^53, times beyond
    nanoseconds."""
    arrow_schema: str
    """Base64 of the file's Arrow schema."""
    where: Filtered
    seen: SeenInJson
    never_seen: list[str] = Field(default_factory=list)
    """Columns that the spec names and no record has."""
    text_bytes: int = 0
    rows_digest: str | None = None
    """RowsDigest of the rows; None where their ids are positions."""
    seconds: float = 0.0

    @property
    def kept(self) -> int:
        """Records that `where` and the row range let through."""
        return self.read - self.filtered - self.outside

    @property
    def listed(self) -> list[FileRef]:
        return [self.file, *([self.rejects] if self.rejects else [])]

    @model_validator(mode="after")
    def _adds_up(self) -> "PartRecord":
        if self.kept != self.rows + sum(self.rejects_by_reason.values()):
            raise ValueError("read is not rows + rejects + filtered + outside")
        return self


class RawPart(_Frozen):
    """A part where a snapshot has it."""

    part_id: str = Field(pattern=r"^[0-9a-f]+$")
    file: FileRef
    """Relative to `layout.raw_folder`."""
    rejects: FileRef | None = None
    rows: int
    """Without those dropped."""
    first_row: int
    """Row id of its first row."""
    read: int
    first_record: int
    """Position in the source of its first record."""
    source: int
    """Place of its file among the snapshot's."""
    first_line: int = 0
    """What is added to the part's line numbers to have the file's."""
    default_ids: bool
    """Ids are positions in the source: the file has none."""
    dropped: str = ""
    """Rows of the file that this snapshot leaves out, as their ids were there before: see `dropped_rows`."""
    digest: str

    @property
    def identity(self) -> str:
        """Digest of all that decides its rows, apart from `first_row`."""
        place = self.first_record if self.default_ids else None
        return digest_of([self.part_id, place, hashlib.sha256(self.dropped.encode()).hexdigest()], length=24)

    @cached_property
    def dropped_rows(self) -> np.ndarray:
        """Ascending places in the file."""
        if not self.dropped:
            return _NONE
        return np.cumsum(np.frombuffer(zlib.decompress(base64.b64decode(self.dropped)), "<i8"))

    @property
    def kept_rows(self) -> np.ndarray:
        """Ascending places in the file of the rows that are not dropped."""
        return np.delete(np.arange(self.rows + len(self.dropped_rows)), self.dropped_rows)

    @property
    def listed(self) -> list[FileRef]:
        return [self.file, *([self.rejects] if self.rejects else [])]


_NONE = np.empty(0, np.int64)


def packed_rows(rows: np.ndarray) -> str:
    """The form of `dropped`: the steps from one to the next, which compress to next to nothing."""
    steps = np.diff(rows, prepend=0).astype("<i8")
    return base64.b64encode(zlib.compress(steps.tobytes())).decode() if len(rows) else ""


class SourceEntry(_Frozen):
    """A file of a source as it was read, so that it is not opened again while it is the same."""

    url: str
    stamp: dict[str, str] | None = None
    """What the store told of it without reading; None where that does not show every change."""
    content: str = ""
    """Etag or sha256 of a file that is not read by lines."""
    format: str
    compression: str
    bytes: int = 0
    parts: list[str]
    whole: bool
    """It was read to its end, none of it left out by `rows`."""


class SeenSource(Manifest):
    """`_seen.json`: files that were read and gave a snapshot that was there, such as after a touch or a move."""

    source: list[SourceEntry]


class RawManifest(Manifest):
    """Commit of one snapshot of a dataset."""

    dataset: str
    ingest_id: str = Field(pattern=r"^[0-9a-f]+$")
    snapshot: str = Field(pattern=r"^[0-9a-f]+$")
    source: list[SourceEntry]
    ingest: dict[str, Any]
    """The part of the dataset's spec that decides the rows."""
    parts: list[RawPart]
    rejects: FileRef | None = None
    """Rows whose id was there before; the parts have the others."""
    records: int
    """Records read from the source, after the row filter and the row range."""
    rows: int
    rows_digest: str
    """RowsDigest of all rows."""
    rejects_by_reason: dict[str, int] = Field(default_factory=dict)
    first_rejects: list[str] = Field(default_factory=list)
    """The first three, a sentence each."""
    filtered: int = 0
    """Records that `where` left out."""
    outside: int = 0
    """Records before the row range's start."""
    accounts: list[SourceAccount] = Field(default_factory=list)
    columns: dict[str, ColumnFigures] = Field(default_factory=dict)
    """The other columns of all parts."""
    arrow_schema: str = ""
    """Base64 of the Arrow schema that all rows can be read with: a part has the columns and types its rows need."""
    matched: dict[str, dict[str, int]] = Field(default_factory=dict)
    """Records that each value of `where` matched, by column."""
    warnings: list[str] = Field(default_factory=list)
    """For people: what was left out, or looks wrong."""
    text_bytes: int = 0
    seconds: float = 0.0

    @property
    def path(self) -> str:
        """Where it lies in the lake."""
        return layout.snapshot_file(self.dataset, self.ingest_id, self.snapshot)

    @property
    def folder(self) -> str:
        """What its files' paths are relative to."""
        return layout.raw_folder(self.dataset, self.ingest_id)

    @property
    def digest(self) -> str:
        """Of all rows; a key of this name is the seal's."""
        return self.rows_digest

    @property
    def nulled(self) -> dict[str, int]:
        """Values that were stored as null, by column."""
        return {name: column.nulled for name, column in self.columns.items() if column.nulled}

    @property
    def listed(self) -> list[FileRef]:
        """Every file that the manifest commits."""
        return [*(file for part in self.parts for file in part.listed), *([self.rejects] if self.rejects else [])]

    @model_validator(mode="after")
    def _adds_up(self) -> "RawManifest":
        if self.records != self.rows + sum(self.rejects_by_reason.values()):
            raise ValueError("records is not rows + rejects")
        if self.rows != sum(part.rows for part in self.parts):
            raise ValueError("rows is not the sum of the parts' rows")
        return self


def pointed(store: Readable, pointer: str, dataset: str, ingest_id: str) -> RawManifest | None:
    """The snapshot that `_base.json` or `_latest.json` names. BadManifest where one of the two is damaged."""
    found = read_manifest(store, pointer, Pointer)
    if found is None:
        return None
    return read_manifest(store, layout.snapshot_file(dataset, ingest_id, found.snapshot), RawManifest)
