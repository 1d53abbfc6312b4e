"""The pydantic models of a pipeline."""

import re
from typing import Annotated, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field, field_validator, model_validator

from embed_assets.spec.index import IndexSpec
from embed_assets.spec.translation import KeyText, OpOptions, Translation
from embed_worker.lake.layout import DATASET_NAME, DELTA, Partitioning, delta_key, partition_key
from embed_worker.lake.spec import EmbeddingSpec
from embed_worker.steps.dialect import Count, StrictModel
from embed_worker.steps.spec import SourceSpec

OWNER = re.compile(r"team:.+|[A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+\.[A-Za-z]{2,7}")


ShardCheck = Literal[
    "dimension", "row_count", "rows_exact", "finite_and_normalised", "files_intact", "same_embedding_space"
]


DatasetName = Annotated[str, Field(pattern=rf"^{DATASET_NAME}$")]


class DatasetSpec(SourceSpec):
    """One source of texts; one partition of `raw_reviews`."""

    strides: Count = Field(ge=1, le=10_000)
    """Number of embedding partitions; each becomes one job."""
    partitioning: Literal["content", "stride", "contiguous"] = "content"
    """`content`: by a hash of the text, so that equal texts meet, and a text keeps its partition when other rows come
    and go. `stride`: row r belongs to partition r mod N. `contiguous`: equal runs of rows."""
    max_removed: float = Field(default=0.2, ge=0, le=1)
    """Share of the rows that a new snapshot may lack. Beyond it raw_reviews stops until it is confirmed: an empty
    export must not empty an index."""
    max_changed: float = Field(default=1.0, ge=0, le=1)
    """The same of rows whose text is another."""
    keep_sets: Count = Field(default=1, ge=1)
    """The youngest so many sets that `embed-assets gc` keeps, with all they are made of; `Lake.scan` reads any of
    them."""
    fresh_hours: float | None = Field(default=None, gt=0)
    """The check `source_fresh` is red where no file of the source was changed for so long."""
    rebase_above: float = Field(default=0.05, ge=0, le=1)
    """The update job takes a new base where the delta adds and removes more than this share of the base's rows."""
    formerly: DatasetName | None = None
    """The name that this dataset had before, in this lake. It is read anew, and nothing that was embedded under the
    old name is embedded again."""
    reuse_from: list[DatasetName] = Field(default_factory=list)
    """Other datasets of the lake whose vectors are taken for texts that they have too. A dataset's own are always."""
    deps: list[KeyText] = Field(default_factory=list)
    """Assets that the source is made by, such as `warehouse/tickets`; in the graph they stand before raw_reviews."""

    @field_validator("name")
    @classmethod
    def _no_partition(cls, value: str) -> str:
        if re.search(rf"-({DELTA}|\d{{5}})$", value):
            raise ValueError(f"{value!r} ends as the key of a partition does; take another name")
        return value

    @property
    def known_from(self) -> list[str]:
        """Other datasets whose vectors are taken, the best first."""
        return [*([self.formerly] if self.formerly else []), *self.reuse_from]

    def stride_keys(self) -> list[str]:
        """Keys of the strides of this dataset's base."""
        return [partition_key(self.name, stride) for stride in range(self.strides)]

    def partition_keys(self) -> list[str]:
        """Keys of this dataset's partitions of `stride_partitions` and `embedding_shards`: its base's strides, its
        delta."""
        return [*self.stride_keys(), delta_key(self.name)]

    @property
    def cut(self) -> Partitioning:
        """How the rows of a snapshot fall into this dataset's partitions."""
        return Partitioning(self.partitioning, self.strides)


class HourlyPrice(StrictModel):
    """Dollars an hour of one machine; what is not given is unknown."""

    spot: float | None = Field(default=None, gt=0)
    """As a spot machine."""
    on_demand: float | None = Field(default=None, gt=0)
    """On demand."""


class PlanAssumptions(StrictModel):
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


def _is_cron(text: str) -> bool:
    if len(text.split()) != 5:
        return False
    try:
        from dagster._utils.schedules import is_valid_cron_string
    except ImportError:  # where the lake is only read, nothing is scheduled
        return True
    return bool(is_valid_cron_string(text))


class EmbeddingPipeline(StrictModel):
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
    """Dollars that all runs of the pipeline may spend together. A job that finds no room is not launched."""
    fail_on: list[ShardCheck] = Field(default_factory=list)
    """Checks of embedding_shards that fail a run where they are red; any red one keeps a set from being published."""
    automation: Literal["manual", "sensor", "cron", "conditions"] = "manual"
    """What launches `{pipeline}__update` by itself. `sensor`: a file of a source has changed, as its listing shows;
    `cron`: the time of `cron`. `conditions` materializes partitions of which an input has another data version."""
    cron: str | None = None
    """When, such as `0 3 * * *`; with `automation: cron`."""
    cron_timezone: str = "UTC"
    """Of `cron`, such as `Europe/Berlin`."""
    index: IndexSpec = IndexSpec()
    """The table of `vector_index`. It changes no row and no vector."""
    plan: PlanAssumptions = PlanAssumptions()
    """What `embed-assets plan` is told. It changes no row and no vector."""
    translation: Translation = Translation()
    """Keys, group and tags of the assets in Dagster. They change no row and no vector."""
    op: OpOptions = OpOptions()
    """What runs the steps in Dagster: pool and tags. It changes no row and no vector."""

    @field_validator("owners")
    @classmethod
    def _known_owners(cls, value: list[str]) -> list[str]:
        for owner in value:
            if not OWNER.fullmatch(owner):
                raise ValueError(f"{owner!r} is neither an e-mail address nor `team:name`")
        return value

    @model_validator(mode="after")
    def _timed(self) -> "EmbeddingPipeline":
        if (self.automation == "cron") != (self.cron is not None):
            raise ValueError("`automation: cron` and `cron` go together")
        if self.cron is not None and not _is_cron(self.cron):
            raise ValueError(f"cron {self.cron!r} is no time; five fields, such as '0 3 * * *'")
        try:
            ZoneInfo(self.cron_timezone)
        except (ZoneInfoNotFoundError, ValueError) as error:
            raise ValueError(f"cron_timezone {self.cron_timezone!r} is not known; such as Europe/Berlin") from error
        return self

    @model_validator(mode="after")
    def _unique(self) -> "EmbeddingPipeline":
        names = [dataset.name for dataset in self.datasets]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"dataset {twice[0]} is there twice")
        for dataset in self.datasets:
            if dataset.formerly in names:
                raise ValueError(
                    f"dataset {dataset.name} was formerly {dataset.formerly}, which is a dataset still; "
                    f"to share its vectors: reuse_from: [{dataset.formerly}]"
                )
        return self

    def dataset(self, name: str) -> DatasetSpec:
        """Raises KeyError with the known names."""
        for dataset in self.datasets:
            if dataset.name == name:
                return dataset
        raise KeyError(
            f"no dataset {name!r} in pipeline {self.name}; it has {', '.join(d.name for d in self.datasets)}"
        )

    def deps(self) -> list[str]:
        """Keys of the assets that its sources are made by, each once."""
        return list(dict.fromkeys(key for dataset in self.datasets for key in dataset.deps))
