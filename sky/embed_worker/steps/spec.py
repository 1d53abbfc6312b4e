"""What the ingest of a dataset is told: its source, and which records become which rows."""

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from embed_worker.lake.layout import DATASET_NAME
from embed_worker.lake.secrets import check_address, secret_names
from embed_worker.lake.spec import digest_of
from embed_worker.steps.dialect import ROWS_KEYS, Count, Dialect, StrictModel
from embed_worker.steps.template import Template

INGEST_VERSION = 3
"""Counts up when the same source and spec would give other rows than before."""

Format = Literal["jsonl", "csv", "tsv", "parquet"]
Compression = Literal["infer", "none", "gzip", "bz2", "xz", "zstd", "lz4"]
Scalar = str | int | float | bool


def _template(value: str) -> str:
    Template(value)
    return value


TemplateText = Annotated[str, AfterValidator(_template)]


class RowRange(StrictModel):
    """A half-open range of the source's records, counted from 0 after the row filter."""

    start: Count = Field(default=0, ge=0)
    """First record that is read."""
    end: Count | None = Field(default=None, ge=1)
    """Record before which reading ends; without it, the source's end."""

    @model_validator(mode="after")
    def _ordered(self) -> "RowRange":
        if self.end is not None and self.end <= self.start:
            raise ValueError(f"end {self.end} must be greater than start {self.start}")
        return self


class _Source(StrictModel):
    """What is read, and which records become which rows."""

    name: str = Field(pattern=rf"^{DATASET_NAME}$", max_length=63)
    """Unique in the lake: lower-case letters, digits, `_`, `-`, `.`; at most 63 characters."""
    source: str | list[str] = Field(min_length=1)
    """fsspec URL(s) or path(s), globs allowed, read in order. Chained URLs such as zip://a.csv::file:///b.zip work."""
    format: Format | None = None
    """Inferred from the file's name where it is not given."""
    compression: Compression = "infer"
    """Inferred from the file's first bytes where it is not given."""
    where: dict[str, Scalar | list[Scalar]] = Field(default_factory=dict)
    """Keep only records whose column has this value, or one of these. A number matches as a number, whether the file
    has 5, 5.0 or "5"; a text matches as it stands. Null matches nothing."""
    text: TemplateText
    """Template of the text to embed over the source's columns, such as `{title}\\n{text}`."""
    id: TemplateText | None = None
    """Template of the record's id; without it, the record's position in the source (before any filter)."""
    rows: RowRange = RowRange()
    """Only this range of the records that `where` keeps."""
    max_text_bytes: Count = Field(default=2_000_000, ge=1)
    """Longer texts are set aside in rejects.parquet."""
    storage_options: dict[str, Any] = Field(default_factory=dict)
    """Passed to fsspec for the source, such as {anon: true}. Not for secrets: those come from the environment."""

    @field_validator("source")
    @classmethod
    def _addresses(cls, value: str | list[str]) -> str | list[str]:
        for one in [value] if isinstance(value, str) else value:
            if not one.strip() or re.search(r"[\x00-\x1f]", one):
                raise ValueError(f"{one!r} is not a path or URL")
            check_address(one)
        return value

    @field_validator("storage_options")
    @classmethod
    def _no_secrets(cls, value: dict[str, Any]) -> dict[str, Any]:
        if found := secret_names(value):
            raise ValueError(f"{found[0]}: secrets do not belong in a pipeline; set them in the environment")
        return value


class SourceSpec(Dialect, _Source):
    """One source of texts; one partition of `raw_reviews`."""

    @property
    def sources(self) -> list[str]:
        return [self.source] if isinstance(self.source, str) else list(self.source)

    def ingest_identity(self) -> dict[str, Any]:
        """The part of the spec that decides the rows of a snapshot; not where the source lies, not how it is cut."""
        return {**self._reading(), "rows": self.rows.model_dump(mode="json")}

    @property
    def ingest_id(self) -> str:
        """Of the way records become rows; `rows` only chooses among them, so that a sample is the beginning of all."""
        return digest_of(self._reading(), length=16)

    def _reading(self) -> dict[str, Any]:
        keys = {"format", "compression", "where", "text", "id", "max_text_bytes", *ROWS_KEYS}
        return {"version": INGEST_VERSION, **self.model_dump(mode="json", include=keys)}
