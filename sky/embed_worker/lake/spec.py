"""The embedding spec: everything that decides what a text's vector is, and a little that does not."""

import hashlib
import json
import re
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from embed_worker.lake.secrets import check_address

RESERVED = {
    *("model", "runner", "convert", "dtype", "tokenizer", "tokenizer_mode", "pooler_config", "override_pooler_config"),
    *("trust_remote_code", "hf_overrides", "hf_config_path", "revision", "code_revision", "tokenizer_revision"),
    *("quantization", "kv_cache_dtype", "load_format", "hf_token"),
}
"""vLLM engine arguments that would change vectors, or load other weights, behind the spec's back, and a secret."""


class Prompts(BaseModel):
    """Texts put before each input. Many models want one for queries and none for documents."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    document: str = ""
    """Put before each text that is embedded."""
    query: str = ""
    """Put before each search query. Not part of the spec id: changing it re-embeds nothing."""


class Reference(BaseModel):
    """What the model's own authors, or another implementation, give for a text."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    text: str = Field(min_length=1)
    """Embedded as a document, at the start of every job."""
    vector: list[float] = Field(min_length=16)
    """The vector, or its first components: as many as tell right from wrong, 16 at least."""


class EmbeddingSpec(BaseModel):
    """One model and how it is used. Two specs with the same `spec_id` give the same vectors."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=(), use_attribute_docstrings=True)

    model: str = Field(min_length=1)
    """The model's public name, such as `sentence-transformers/all-MiniLM-L6-v2`."""
    location: str | None = None
    """Where the weights lie: a folder on this machine, or an object-store URL (s3://, gs://, az://) that each node
    fetches once. Without it, `model` is fetched from the hub. Not part of the spec id."""
    revision: str | None = None
    """Commit of the model on the hub. Pin it: a branch can move under a run of days."""
    sha256: dict[str, str] = Field(default_factory=dict)
    """Digest that each named file of the model must have, such as `{model.safetensors: 53aa…}`."""
    pooling: Literal["mean", "cls", "last"]
    """How token vectors become one: their mean, the first token's, or the last token's."""
    attention: Literal["causal", "bidirectional"]
    """What the model was trained with. Decoder models made for embedding often need `bidirectional`."""
    normalize: bool = True
    """Scale each vector to length 1."""
    dtype: Literal["bfloat16", "float16", "float32"] = "bfloat16"
    """What the engine computes in."""
    output_dtype: Literal["float32", "float16"] = "float32"
    """What the vectors are stored as."""
    dimensions: int | None = Field(default=None, ge=1)
    """Keep only the first components and normalise again (Matryoshka). Only for models that declare it."""
    max_tokens: int = Field(default=512, ge=8)
    """Longest input in tokens, special tokens included."""
    long_texts: Literal["window", "truncate"] = "window"
    """What happens to a longer text: several overlapping windows, or only its beginning."""
    overlap: int = Field(default=0, ge=0)
    """Tokens that neighbouring windows share; at most half of `max_tokens`."""
    append_token: str | None = None
    """A token each input must end with, such as `<|endoftext|>`; added where the tokenizer does not."""
    prompts: Prompts = Prompts()
    trust_remote_code: bool = False
    """Lets the model's repository run its own Python. Off unless you have read that code."""
    hf_overrides: dict[str, Any] = Field(default_factory=dict)
    """Keys of the model's config.json to replace. They can change vectors, so they count in the spec id."""
    references: list[Reference] = Field(default_factory=list)
    """Known vectors that the loaded model must reproduce, cosine 0.99 at least; otherwise the job stops before it
    embeds anything. Not part of the spec id."""
    engine: dict[str, Any] = Field(default_factory=dict)
    """Further vLLM engine arguments that change speed, not vectors. Not part of the spec id."""

    @field_validator("model", "location")
    @classmethod
    def _one_line(cls, value: str | None) -> str | None:
        if value is not None and re.search(r"[\x00-\x1f]", value):
            raise ValueError("holds a control character")
        return value if value is None else check_address(value)

    @field_validator("sha256")
    @classmethod
    def _hex(cls, value: dict[str, str]) -> dict[str, str]:
        for name, digest in value.items():
            if not re.fullmatch(r"[0-9a-f]{64}", digest):
                raise ValueError(f"{name}: not a sha256 (64 hex digits)")
            if name.startswith("/") or ".." in name.split("/"):
                raise ValueError(f"{name}: must be a path inside the model's folder")
        return value

    @model_validator(mode="after")
    def _fits(self) -> "EmbeddingSpec":
        if self.overlap * 2 > self.max_tokens:
            raise ValueError(f"overlap {self.overlap} is over half of max_tokens {self.max_tokens}")
        if self.dimensions is not None and not self.normalize:
            raise ValueError("dimensions needs normalize: true, since a cut vector is scaled to length 1 again")
        if clash := sorted(RESERVED & self.engine.keys()):
            raise ValueError(f"engine may not set {', '.join(clash)}: use the spec's own keys")
        return self

    def identity(self) -> dict[str, Any]:
        """The part of the spec that decides the vectors, as plain JSON values."""
        spec = self.model_dump(mode="json", exclude={"location", "engine", "references"})
        if self.dimensions is None:
            del spec["dimensions"]  # so that specs from before this key keep their ids
        spec["prompts"] = {"document": self.prompts.document}
        return spec

    @property
    def spec_id(self) -> str:
        """Readable slug of the model and 12 hex digits of the identity's digest; names a lake folder."""
        slug = re.sub(r"[^a-z0-9]+", "-", self.model.rstrip("/").rsplit("/", 1)[-1].lower()).strip("-")[:48]
        return f"{slug or 'model'}-{digest_of(self.identity())}"


def digest_of(value: Any, length: int = 12) -> str:
    """First hex digits of the sha256 of a JSON value in canonical form."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:length]
