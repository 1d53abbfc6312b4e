"""The manifests: small JSON files whose existence is the commit of everything they list."""

import base64
from datetime import UTC, datetime
from typing import Literal, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from embed_worker.lake import layout
from embed_worker.lake.attempts import Attempts, Hardware
from embed_worker.lake.errors import BadManifest
from embed_worker.lake.files import FileRef, LakePath, digest_of_files
from embed_worker.lake.layout import FORMAT, Method, ShardId
from embed_worker.lake.reading import Readable
from embed_worker.lake.seal import Damaged, sealed, unsealed
from embed_worker.lake.spec import EmbeddingSpec, digest_of
from embed_worker.lake.store import Store

MIN_COSINE = 0.999
"""Between the canary vectors of one embedding space: room for another GPU, batch or kernel, for no other model."""
TEXT_REASONS = frozenset({"null text", "blank text", "no tokens"})
"""Why a row is rejected for its text alone; for any other reason the engine gave it no vector."""

M = TypeVar("M", bound=BaseModel)


def now() -> str:
    """UTC time to the second, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


class Manifest(BaseModel):
    """What all manifests have."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())

    format: Literal[2] = FORMAT
    created_at: str = Field(default_factory=now)


class StrideEntry(BaseModel):
    """One stride of a partitioning: its files and their digest."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rows: int
    bytes: int
    digest: str
    files: list[FileRef]


class StridesManifest(Manifest):
    """Commit of all strides of one snapshot; they are written together in one pass."""

    dataset: str
    snapshot: str
    method: Method
    count: int
    rows: int
    input_digest: str
    strides: list[StrideEntry]
    seconds: float = 0.0

    @property
    def listed(self) -> list[FileRef]:
        """Every file that the manifest commits."""
        return [file for entry in self.strides for file in entry.files]


class InputRef(BaseModel):
    """What a shard was made from."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: LakePath
    """Folder of the stride, relative to the lake."""
    digest: str
    rows: int
    files: list[FileRef]


class Canaries(BaseModel):
    """Vectors of a few fixed texts: two shards are comparable when theirs are."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    texts_digest: str
    dimension: int
    vectors: list[str]
    """Base64 of little-endian float32, one string a text."""

    @classmethod
    def of(cls, texts: list[str], vectors: np.ndarray) -> "Canaries":
        rows = np.asarray(vectors, dtype="<f4")
        encoded = [base64.b64encode(row.tobytes()).decode() for row in rows]
        return cls(texts_digest=digest_of(texts), dimension=int(rows.shape[1]), vectors=encoded)

    def array(self) -> np.ndarray:
        """Shape [texts, dimension], float32. Raises ValueError where the text is not such an array."""
        rows = [np.frombuffer(base64.b64decode(v, validate=True), dtype="<f4") for v in self.vectors]
        if not rows or any(row.shape != (self.dimension,) for row in rows):
            raise ValueError("canary vectors do not have the dimension they claim")
        return np.stack(rows)

    def worst_cosine(self, other: "Canaries") -> float:
        """Smallest cosine between the vectors of the same text; -1 where they are not comparable."""
        a, b = self.array(), other.array()
        if self.texts_digest != other.texts_digest or a.shape != b.shape:
            return -1.0
        norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            cosines = np.sum(a * b, axis=1) / norms
        return float(np.min(np.nan_to_num(cosines, nan=-1.0)))


class ShardManifest(Manifest):
    """THE commit of an embedding partition."""

    pipeline: str
    shard: ShardId
    spec: EmbeddingSpec
    input: InputRef
    files: list[FileRef]
    rejects: FileRef | None = None
    rows_in: int
    rows_embedded: int
    rows_rejected: int
    rejects_by_reason: dict[str, int] = Field(default_factory=dict)
    windows: int
    """Vectors written: one a window."""
    tokens: int
    """Tokens of all windows, special tokens included."""
    duplicate_windows: int
    """Windows that were not computed because the same tokens had been."""
    dimension: int | None
    """None where not one row could be embedded."""
    dtype: Literal["float32", "float16"]
    canaries: Canaries | None
    checkpoint_rows: int
    checkpoints: int
    engine: dict[str, str]
    hardware: Hardware
    attempts: Attempts
    seconds: dict[str, float]

    @model_validator(mode="after")
    def _adds_up(self) -> "ShardManifest":
        if self.rows_in != self.rows_embedded + self.rows_rejected:
            raise ValueError("rows_in is not rows_embedded + rows_rejected")
        if self.rows_rejected != sum(self.rejects_by_reason.values()):
            raise ValueError("rows_rejected is not the sum of rejects_by_reason")
        return self

    @property
    def listed(self) -> list[FileRef]:
        """Every file that the manifest commits."""
        return [*self.files, *([self.rejects] if self.rejects else [])]

    @property
    def rows_without_vector(self) -> int:
        """Rows with a text that got no vector from the engine."""
        return sum(rows for reason, rows in self.rejects_by_reason.items() if reason not in TEXT_REASONS)

    @property
    def data_version(self) -> str:
        """Digest of what the shard holds and was made from."""
        return digest_of([self.shard.spec_id, self.input.digest, digest_of_files(self.files)], length=16)


class Space(Manifest):
    """The canary vectors that all shards of a spec must share; made by the first shard committed."""

    spec_id: str
    spec: EmbeddingSpec
    made_by: str
    canaries: Canaries


def write_manifest(store: Store, path: str, manifest: BaseModel) -> bool:
    """Creates a manifest, sealed with its digest. False where there is one already: the first writer wins."""
    return store.create(path, sealed(path, manifest.model_dump(mode="json")))


def ensure_space(store: Store, made: ShardManifest) -> None:
    """Makes the canaries of a shard those that all of its spec are held against, unless there are some already."""
    if made.canaries is None:
        return
    spec_id = made.shard.spec_id
    space = Space(spec_id=spec_id, spec=made.spec, made_by=made.shard.key, canaries=made.canaries)
    write_manifest(store, layout.canaries_file(spec_id), space)


def read_manifest(store: Readable, path: str, model: type[M]) -> M | None:
    """The manifest at a path, or None where there is none. BadManifest names the file and the key."""
    try:
        return model.model_validate(unsealed(path, store.read(path)))
    except FileNotFoundError:
        return None
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "the whole"
        raise BadManifest(f"{store.url(path)}: {key}: {first['msg']}") from error
    except Damaged as error:
        raise BadManifest(f"{store.url(path)} {error}") from error
    except ValueError as error:
        raise BadManifest(f"{store.url(path)}: {error}") from error
