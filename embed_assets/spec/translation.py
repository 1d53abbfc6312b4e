"""How a pipeline stands in Dagster's graph: keys, group and tags of its assets, and what runs its steps."""

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from embed_worker.steps.dialect import StrictModel

KEY = "{pipeline}/{asset}"

_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_TAG_KEY = re.compile(r"([A-Za-z0-9_.-]{1,63}/)?[A-Za-z0-9_.-]{1,63}")
_TAG_VALUE = re.compile(r"[A-Za-z0-9_.-]{0,63}")

AssetName = Literal["raw_reviews", "stride_partitions", "embedding_shards", "embedding_set", "vector_index"]


def _key(value: str) -> str:
    for part in value.split("/"):
        if not _PART.fullmatch(part):
            raise ValueError(
                f"{value!r} is not an asset key: parts of letters, digits, `_`, `-`, `.`, with `/` between"
            )
    return value


def _part(value: str) -> str:
    if not _PART.fullmatch(value):
        raise ValueError(f"{value!r} is not one part of an asset key: letters, digits, `_`, `-`, `.`")
    return value


KeyText = Annotated[str, AfterValidator(_key)]
"""An asset key as Dagster writes it: `warehouse/tickets`."""
KeyPart = Annotated[str, AfterValidator(_part)]


class AssetNames(StrictModel):
    """What each asset is called."""

    raw_reviews: KeyPart = "raw_reviews"
    """The texts as they came."""
    stride_partitions: KeyPart = "stride_partitions"
    """The texts, cut into jobs."""
    embedding_shards: KeyPart = "embedding_shards"
    """The vectors."""
    embedding_set: KeyPart = "embedding_set"
    """The complete set of a dataset's vectors."""
    vector_index: KeyPart = "vector_index"
    """The table that is searched."""


class Translation(StrictModel):
    """Keys, group and tags of the pipeline's assets in Dagster. They change no row and no vector."""

    key: str = KEY
    """Key of each asset; `{asset}` is its name, `{pipeline}` the pipeline's."""
    key_prefix: KeyText | None = None
    """Put before each key, such as `search/prod`."""
    names: AssetNames = AssetNames()
    """What `{asset}` is, asset by asset."""
    group: str | None = Field(default=None, pattern=r"^[A-Za-z0-9_]+$")
    """Group of the assets; without it, the pipeline's name."""
    tags: dict[str, str] = Field(default_factory=dict)
    """Tags of the assets, such as `{team: search}`."""

    @field_validator("key")
    @classmethod
    def _template(cls, value: str) -> str:
        if "{asset}" not in value:
            raise ValueError(f"{value!r} has no `{{asset}}`: all assets would have one key")
        _key(value.replace("{asset}", "a").replace("{pipeline}", "p"))
        return value

    @field_validator("tags")
    @classmethod
    def _dagster_takes_them(cls, value: dict[str, str]) -> dict[str, str]:
        for key, text in value.items():
            if not _TAG_KEY.fullmatch(key) or key.startswith("dagster/"):
                raise ValueError(f"{key!r} is not a tag: letters, digits, `_`, `-`, `.`; 63 characters at most")
            if not _TAG_VALUE.fullmatch(text):
                raise ValueError(f"{key}: {text!r} has more than letters, digits, `_`, `-`, `.`, or 63 characters")
        return value

    @model_validator(mode="after")
    def _keys_differ(self) -> "Translation":
        names = list(self.names.model_dump().values())
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"names: two assets are called {twice[0]!r}")
        return self

    def path(self, pipeline: str, asset: str) -> list[str]:
        """The parts of an asset's key."""
        name = getattr(self.names, asset, asset)
        key = self.key.replace("{pipeline}", pipeline).replace("{asset}", name)
        return [*(self.key_prefix.split("/") if self.key_prefix else []), *key.split("/")]


class StepOptions(StrictModel):
    """What Dagster is told of a step."""

    pool: str | None = None
    """Dagster's pool, whose limit is how many of its steps run at once."""
    tags: dict[str, Any] = Field(default_factory=dict)
    """Tags of the op, such as `dagster-k8s/config`."""

    @field_validator("pool")
    @classmethod
    def _a_pool(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"\S+", value):
            raise ValueError(f"{value!r} is not the name of a pool: it is empty or has a space")
        return value


class OpOptions(StepOptions):
    """What runs the pipeline's steps. It changes no row and no vector."""

    steps: dict[AssetName, StepOptions] = Field(default_factory=dict)
    """What differs for the step of one asset: `{embedding_shards: {pool: gpus}}` limits the runs that drive GPUs."""

    def of(self, asset: str) -> StepOptions:
        """Of one asset's step."""
        own = next((options for name, options in self.steps.items() if name == asset), StepOptions())
        return StepOptions(pool=own.pool or self.pool, tags={**self.tags, **own.tags})
