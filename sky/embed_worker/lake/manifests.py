"""The manifests: small JSON files whose existence is the commit of everything they list."""

import base64
from datetime import UTC, datetime
from functools import cached_property
from typing import Literal, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from embed_worker.lake import layout
from embed_worker.lake.attempts import Attempts, Hardware
from embed_worker.lake.errors import BadManifest
from embed_worker.lake.files import FileRef, LakePath, digest_of_files
from embed_worker.lake.identity import RowsDigest
from embed_worker.lake.layout import FORMAT, Method, Partitioning, ShardId
from embed_worker.lake.reading import Readable
from embed_worker.lake.seal import Damaged, sealed, unsealed
from embed_worker.lake.spec import EmbeddingSpec, digest_of
from embed_worker.lake.store import Store

MIN_COSINE = 0.999
"""Between the canary vectors of one embedding space: room for another GPU, batch or kernel, for no other model."""
TEXT_REASONS = frozenset({"blank text", "no tokens"})
"""Why a row is rejected for its text alone; for any other reason the engine gave it no vector."""
SLICE_LINE = np.dtype([("rows", "<i8"), ("offset", "<i8"), ("length", "<i8"), ("digest", "<u4", 4)])
"""A stride in a slice: its rows, its range of the file, and the sum of its rows' digests modulo 2^128."""
M = TypeVar("M", bound=BaseModel)


def now() -> str:
    """UTC time to the second, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


class Manifest(BaseModel):
    """What all manifests have."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())

    format: Literal[2] = FORMAT
    created_at: str = Field(default_factory=now)


class SliceManifest(Manifest):
    """Commit of one slice: a part of a snapshot, cut. One batch or more a stride, in order."""

    slice_id: str
    file: FileRef
    """Relative to the cut's folder."""
    table: str
    """Base64 of a little-endian table of one line a stride: see SLICE_LINE."""

    @classmethod
    def of(cls, slice_id: str, file: FileRef, lines: np.ndarray) -> "SliceManifest":
        return cls(slice_id=slice_id, file=file, table=base64.b64encode(lines.astype(SLICE_LINE).tobytes()).decode())

    @cached_property
    def lines(self) -> np.ndarray:
        """Shape [strides], of SLICE_LINE."""
        return np.frombuffer(base64.b64decode(self.table, validate=True), SLICE_LINE)

    @property
    def listed(self) -> list[FileRef]:
        """Every file that the manifest commits."""
        return [self.file]


class StrideEntry(BaseModel):
    """One stride of a cut."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rows: int
    bytes: int
    """In the slices."""
    digest: str
    """Of its rows."""


class StridesManifest(Manifest):
    """Commit of a cut: all strides of one snapshot, and the slices that hold them."""

    dataset: str
    ingest_id: str
    snapshot: str
    method: Method
    count: int
    rows: int
    rows_digest: str
    """Of the snapshot's rows."""
    slices: list[str]
    strides: list[StrideEntry]
    warnings: list[str] = Field(default_factory=list)
    """For people: what looks wrong."""
    seconds: float = 0.0

    @model_validator(mode="after")
    def _adds_up(self) -> "StridesManifest":
        if len(self.strides) != self.count:
            raise ValueError("there are not as many strides as count says")
        whole = sum((RowsDigest.parse(s.rows, s.digest) for s in self.strides), RowsDigest())
        if whole != RowsDigest.parse(self.rows, self.rows_digest):
            raise ValueError("the strides together are not the snapshot's rows")
        return self

    @property
    def partitioning(self) -> Partitioning:
        return Partitioning(self.method, self.count)

    @property
    def folder(self) -> str:
        """Of the cut, relative to the lake."""
        return layout.strides_folder(self.dataset, self.ingest_id, self.partitioning)


class InputRef(BaseModel):
    """What a shard was made from."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: LakePath
    """Folder of the cut that the rows were read from, relative to the lake."""
    digest: str
    """Of the rows: what counts."""
    rows: int

    @property
    def rows_digest(self) -> RowsDigest:
        return RowsDigest.parse(self.rows, self.digest)


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


class Reused(BaseModel):
    """What a shard has taken from an earlier one, as that one was."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    folder: LakePath
    """Of the earlier shard, relative to the lake."""
    data_version: str
    rows: int
    windows: int
    tokens: int

    def __add__(self, other: "Reused") -> "Reused":
        counts = {name: getattr(self, name) + getattr(other, name) for name in ("rows", "windows", "tokens")}
        return self.model_copy(update=counts)


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
    """By the engine, for this shard."""
    rows_reused: int = 0
    """Whose vectors are those of earlier shards, bit for bit."""
    rows_rejected: int
    rejects_by_reason: dict[str, int] = Field(default_factory=dict)
    reused: list[Reused] = Field(default_factory=list)
    unusable: dict[LakePath, str] = Field(default_factory=dict)
    """Folders of earlier shards that were named for reuse and not used, and why; or the space's canary vectors."""
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
    engine_of: LakePath | None = None
    """Folder of the earlier shard whose canaries and engine these are, where no engine ran for this one."""
    checkpoint_rows: int
    checkpoints: int
    engine: dict[str, str]
    hardware: Hardware
    attempts: Attempts
    seconds: dict[str, float]

    @model_validator(mode="after")
    def _adds_up(self) -> "ShardManifest":
        if self.shard.input_digest != self.input.digest or self.rows_in != self.input.rows:
            raise ValueError("the input is not the shard's")
        if self.rows_in != self.rows_embedded + self.rows_reused + self.rows_rejected:
            raise ValueError("rows_in is not rows_embedded + rows_reused + rows_rejected")
        if self.rows_reused != sum(one.rows for one in self.reused):
            raise ValueError("rows_reused is not the sum of reused")
        if self.engine_of is not None and self.rows_embedded:
            raise ValueError("rows were embedded, and engine_of says that no engine ran")
        if self.rows_rejected != sum(self.rejects_by_reason.values()):
            raise ValueError("rows_rejected is not the sum of rejects_by_reason")
        return self

    @property
    def listed(self) -> list[FileRef]:
        """Every file that the manifest commits."""
        return [*self.files, *([self.rejects] if self.rejects else [])]

    @property
    def rows_with_vector(self) -> int:
        return self.rows_embedded + self.rows_reused

    @property
    def windows_embedded(self) -> int:
        return self.windows - sum(one.windows for one in self.reused)

    @property
    def tokens_embedded(self) -> int:
        return self.tokens - sum(one.tokens for one in self.reused)

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
