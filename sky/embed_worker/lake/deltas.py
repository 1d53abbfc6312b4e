"""What a snapshot has and lacks against the base: rows that were added, and rows that are gone."""

from collections.abc import Sequence
from typing import Protocol

import pyarrow as pa
from pydantic import Field, model_validator

from embed_worker.lake import layout
from embed_worker.lake.files import FileRef
from embed_worker.lake.identity import KEY_TYPE
from embed_worker.lake.manifests import Manifest
from embed_worker.lake.snapshots import RawManifest, RawPart
from embed_worker.lake.spec import digest_of

REMOVED_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("text_key", KEY_TYPE, nullable=False),
        pa.field("row_id", pa.int64(), nullable=False),
    ]
)
"""Of removed rows, in the base's order; `row_id` is the base's."""


class Rows(Protocol):
    """What is cut: a snapshot, or what a delta adds."""

    @property
    def dataset(self) -> str: ...
    @property
    def ingest_id(self) -> str: ...
    @property
    def snapshot(self) -> str: ...
    @property
    def parts(self) -> Sequence[RawPart]: ...
    @property
    def rows(self) -> int: ...
    @property
    def rows_digest(self) -> str: ...
    @property
    def folder(self) -> str: ...


class DeltaManifest(Manifest):
    """Commit of a delta. base - removed + added = latest, row for row."""

    dataset: str
    ingest_id: str = Field(pattern=r"^[0-9a-f]+$")
    base: str = Field(pattern=r"^[0-9a-f]+$")
    latest: str = Field(pattern=r"^[0-9a-f]+$")
    parts: list[RawPart] = Field(default_factory=list)
    """Parts of the latest with a row that was added; the others of their rows are among those dropped."""
    rows: int = 0
    """Added."""
    rows_digest: str = "0" * 32
    """Of the added."""
    rows_removed: int = 0
    removed_digest: str = "0" * 32
    removed: FileRef | None = None
    """See REMOVED_SCHEMA; relative to `folder`."""
    rows_changed: int = 0
    """Added ones whose id a removed one had."""
    base_rows: int
    columns: list[str] = Field(default_factory=list)
    """The other columns of the latest."""
    seconds: float = 0.0

    @property
    def snapshot(self) -> str:
        """Its name, where the base and the latest have theirs."""
        return layout.delta_name(self.base, self.latest)

    @property
    def path(self) -> str:
        """Where it lies in the lake."""
        return layout.delta_file(self.dataset, self.ingest_id, self.base, self.latest)

    @property
    def folder(self) -> str:
        """What its files' paths are relative to: the snapshots' own."""
        return layout.raw_folder(self.dataset, self.ingest_id)

    @property
    def data_version(self) -> str:
        """Digest of what it adds and removes, whatever the snapshots."""
        if not self.rows and not self.rows_removed:
            return "empty"
        return digest_of([self.rows, self.rows_digest, self.rows_removed, self.removed_digest], length=16)

    @property
    def rows_unchanged(self) -> int:
        return self.base_rows - self.rows_removed

    @property
    def listed(self) -> list[FileRef]:
        """Every file that the manifest commits; a part's are its snapshot's."""
        return [self.removed] if self.removed else []

    @model_validator(mode="after")
    def _adds_up(self) -> "DeltaManifest":
        if self.rows != sum(part.rows for part in self.parts):
            raise ValueError("rows is not the sum of the parts' rows")
        if self.rows_removed != (self.removed.rows if self.removed else 0):
            raise ValueError("rows_removed is not what the file of removed rows has")
        return self


def no_delta(base: RawManifest) -> DeltaManifest:
    """Of a base that is the latest."""
    return DeltaManifest(
        dataset=base.dataset, ingest_id=base.ingest_id, base=base.snapshot, latest=base.snapshot, base_rows=base.rows
    )
