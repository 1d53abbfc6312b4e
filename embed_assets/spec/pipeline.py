"""The pydantic models of a pipeline."""

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from embed_assets.spec.template import Template
from embed_worker.layout import DATASET_NAME, Method, partition_key
from embed_worker.model_spec import EmbeddingSpec, digest_of
from embed_worker.secrets import check_address, secret_names

INGEST_VERSION = 1
"""Counts up when the same source and spec would give other rows than before."""

Format = Literal["jsonl", "csv", "tsv", "parquet"]
Compression = Literal["infer", "none", "gzip", "bz2", "xz", "zstd"]
Scalar = str | int | float | bool


def _template(value: str) -> str:
    Template(value)
    return value


TemplateText = Annotated[str, AfterValidator(_template)]
Count = Annotated[int, Field(strict=True)]
"""A number that is one in YAML too: `yes` is not 1."""
OWNER = re.compile(r"team:.+|[A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+\.[A-Za-z]{2,7}")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class RowRange(_Strict):
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


class DatasetSpec(_Strict):
    """One source of texts; one partition of `raw_reviews`."""

    name: str = Field(pattern=rf"^{DATASET_NAME}$", max_length=63)
    """Unique in the lake: lower-case letters, digits, `_`, `-`, `.`; at most 63 characters."""
    source: str | list[str] = Field(min_length=1)
    """fsspec URL(s) or path(s), globs allowed, read in order. Chained URLs such as zip://a.csv::file:///b.zip work."""
    format: Format | None = None
    """Inferred from the file's name where it is not given."""
    compression: Compression = "infer"
    """Inferred from the file's name where it is not given."""
    where: dict[str, Scalar | list[Scalar]] = Field(default_factory=dict)
    """Keep only records whose column has this value, or one of these. Null matches nothing."""
    text: TemplateText
    """Template of the text to embed over the source's columns, such as `{title}\\n{text}`."""
    id: TemplateText | None = None
    """Template of the record's id; without it, the record's position in the source (before any filter)."""
    rows: RowRange = RowRange()
    """Only this range of the records that `where` keeps."""
    strides: Count = Field(ge=1, le=10_000)
    """Number of embedding partitions; each becomes one job."""
    partitioning: Method = "stride"
    """`stride`: row r belongs to partition r mod N. `contiguous`: equal runs of rows."""
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

    @property
    def sources(self) -> list[str]:
        return [self.source] if isinstance(self.source, str) else list(self.source)

    def ingest_identity(self) -> dict[str, Any]:
        """The part of the spec that decides the rows of a snapshot; not where the source lies, not how it is cut."""
        keys = {"format", "compression", "where", "text", "id", "rows", "max_text_bytes"}
        return {"version": INGEST_VERSION, **self.model_dump(mode="json", include=keys)}

    def partition_keys(self) -> list[str]:
        """Keys of this dataset's partitions of `stride_partitions` and `embedding_shards`."""
        return [partition_key(self.name, stride) for stride in range(self.strides)]


class HourlyPrice(_Strict):
    """Dollars an hour of one machine; what is not given is unknown."""

    spot: float | None = Field(default=None, gt=0)
    """As a spot machine."""
    on_demand: float | None = Field(default=None, gt=0)
    """On demand."""


class PlanAssumptions(_Strict):
    """What `embed-assets plan` cannot find out here, or what you have measured. It changes no row and no vector."""

    rows: Count | None = Field(default=None, ge=1)
    """Rows of each dataset that is not ingested yet. With `tokens_per_row`, its source is not opened at all."""
    tokens_per_row: float | None = Field(default=None, gt=0)
    """Mean tokens of a row, all its windows and special tokens included; nothing is tokenised then."""
    tokenizer: str | None = None
    """A tokenizer.json on this machine, where the model's folder is not here."""
    parameters: float | None = Field(default=None, gt=0)
    """Parameters that a token passes through, without the embedding table: 2 FLOP each."""
    dimension: Count | None = Field(default=None, ge=1)
    """Length of a vector."""
    tokens_per_second: dict[str, Annotated[float, Field(gt=0)]] = Field(default_factory=dict)
    """Measured speed of one machine by its accelerator, such as `{L4: 2000}`; `cpu` for one without."""
    usd_per_hour: dict[str, HourlyPrice] = Field(default_factory=dict)
    """Your prices by accelerator, instead of SkyPilot's catalog: `{L4: {spot: 0.3, on_demand: 0.8}}`."""
    start_seconds: float = Field(default=240.0, ge=0)
    """Seconds of a job before it loads the model: the worker's environment is installed. In a warm pool 0."""
    load_seconds: float | None = Field(default=None, gt=0)
    """Seconds that loading the model takes; without it, 40 s and the weights at 250 MB/s."""


class EmbeddingPipeline(_Strict):
    """A pipeline: datasets, one embedding spec, and how the work is cut."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")
    """First part of the asset keys: lower-case letters, digits and `_`, a letter first."""
    description: str = ""
    """For people."""
    owners: list[str] = Field(default_factory=list)
    """Dagster owners: an e-mail address, or `team:name`."""
    datasets: list[DatasetSpec] = Field(min_length=1)
    """The sources of texts."""
    embedding: EmbeddingSpec
    """The model and how it is used."""
    checkpoint_rows: Count = Field(default=1024, ge=1, le=1_000_000)
    """Rows of a checkpoint. A preemption repeats the one in the engine and at most two that wait."""
    budget_usd: float | None = Field(default=None, gt=0)
    """No further job is launched where the cost so far and what is projected for the rest of a run exceed it."""
    plan: PlanAssumptions = PlanAssumptions()
    """What `embed-assets plan` is told. It changes no row and no vector."""

    @field_validator("owners")
    @classmethod
    def _known_owners(cls, value: list[str]) -> list[str]:
        for owner in value:
            if not OWNER.fullmatch(owner):
                raise ValueError(f"{owner!r} is neither an e-mail address nor `team:name`")
        return value

    @model_validator(mode="after")
    def _unique(self) -> "EmbeddingPipeline":
        names = [dataset.name for dataset in self.datasets]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"dataset {twice[0]} is there twice")
        return self

    def dataset(self, name: str) -> DatasetSpec:
        """Raises KeyError with the known names."""
        for dataset in self.datasets:
            if dataset.name == name:
                return dataset
        raise KeyError(
            f"no dataset {name!r} in pipeline {self.name}; it has {', '.join(d.name for d in self.datasets)}"
        )

    def ingest_version(self) -> str:
        return digest_of([d.ingest_identity() for d in self.datasets])
