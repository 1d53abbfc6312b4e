"""The complete, checked set of a dataset's shards: what is published, and what an index is built from."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from embed_worker.lake import layout
from embed_worker.lake.files import FileRef
from embed_worker.lake.layout import WHOLE, Method, Partitioning, ShardId
from embed_worker.lake.manifests import Manifest, ShardManifest, read_manifest, write_manifest
from embed_worker.lake.reading import Readable
from embed_worker.lake.seal import sealed
from embed_worker.lake.spec import digest_of
from embed_worker.lake.store import Store


class SetShard(BaseModel):
    """A shard of a set, with its very files."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    stride: int
    input_digest: str
    data_version: str
    rows: int
    rows_rejected: int
    windows: int
    tokens: int
    files: list[FileRef]
    """Relative to the shard's folder."""
    rows_removed: int = 0
    """Of `rows`, those that the set leaves out: the delta has removed them."""
    windows_removed: int = 0
    checks: list[str]
    """Those that were green."""

    @classmethod
    def of(cls, manifest: ShardManifest, checks: list[str]) -> "SetShard":
        return cls(
            stride=manifest.shard.stride, input_digest=manifest.input.digest, data_version=manifest.data_version,
            rows=manifest.rows_with_vector, rows_rejected=manifest.rows_rejected, windows=manifest.windows,
            tokens=manifest.tokens, files=manifest.files, checks=sorted(checks),
        )  # fmt: skip


class SetDelta(BaseModel):
    """What a set has and lacks beside the base's shards."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    latest: str
    """The snapshot that the set is of."""
    data_version: str
    shard: SetShard | None
    """Rows that were added; None without any."""
    removed: FileRef | None
    """Rows of the base that are left out: see REMOVED_SCHEMA. Relative to `layout.raw_folder`."""


class SetManifest(Manifest):
    """All shards of one cut of the base, and of the delta; each committed, each with green checks."""

    dataset: str
    spec_id: str
    ingest_id: str
    snapshot: str
    """The base."""
    method: Method
    count: int
    dimension: int | None
    """None where not one row could be embedded."""
    dtype: Literal["float32", "float16"]
    shards: list[SetShard] = Field(min_length=1)
    """Of the base, by stride."""
    delta: SetDelta | None = None
    """None where the base is the latest."""

    @model_validator(mode="after")
    def _complete(self) -> "SetManifest":
        if [shard.stride for shard in self.shards] != list(range(self.count)):
            raise ValueError("shards are not each stride once, in order")
        return self

    @property
    def digest(self) -> str:
        """Of what the set holds; the name of its file and its data version."""
        about = [self.spec_id, self.snapshot, self.partitioning.name]
        delta = [self.delta.data_version, self.delta.shard and self.delta.shard.data_version] if self.delta else []
        return digest_of([*about, [s.data_version for s in self.shards], *delta], length=16)

    @property
    def partitioning(self) -> Partitioning:
        return Partitioning(self.method, self.count)

    @property
    def latest(self) -> str:
        """The snapshot that the set is of."""
        return self.delta.latest if self.delta else self.snapshot

    @property
    def rows(self) -> int:
        return sum(one.rows - one.rows_removed for _, one in self.members)

    @property
    def windows(self) -> int:
        return sum(one.windows - one.windows_removed for _, one in self.members)

    @property
    def members(self) -> list[tuple[ShardId, SetShard]]:
        """All shards: the base's by stride, then the delta's."""
        about = self.dataset, self.spec_id
        found = [(ShardId.of(*about, self.partitioning, one.stride, one.input_digest), one) for one in self.shards]
        if self.delta is not None and (added := self.delta.shard) is not None:
            found.append((ShardId.of(*about, WHOLE, added.stride, added.input_digest), added))
        return found


class CurrentSet(BaseModel):
    """`_current.json`: the set that readers take."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    set_digest: str = Field(pattern=r"^[0-9a-f]+$")


def publish_set(store: Store, made: SetManifest) -> bool:
    """Commits a set and makes it the current one. False where it was current already."""
    folder = layout.set_folder(made.dataset, made.spec_id, made.ingest_id)
    write_manifest(store, f"{folder}/{made.digest}.json", made)
    path, current = f"{folder}/{layout.CURRENT}", CurrentSet(set_digest=made.digest)
    if read_manifest(store, path, CurrentSet) == current:
        return False
    store.replace(path, sealed(path, current.model_dump(mode="json")))
    return True


def set_of(store: Store, dataset: str, spec_id: str, ingest_id: str, snapshot: str) -> SetManifest | None:
    """The youngest set of a snapshot that is there; `snapshot` may be the set's own digest. Raises BadManifest."""
    folder = layout.set_folder(dataset, spec_id, ingest_id)
    names = [n for n in store.list(folder) if n.endswith(".json") and not n.startswith(("_", "."))]
    made = [read_manifest(store, f"{folder}/{name}", SetManifest) for name in names]
    found = [one for one in made if one is not None and snapshot in (one.digest, one.latest)]
    return max(found, key=lambda one: one.created_at, default=None)


def current_set(store: Readable, dataset: str, spec_id: str, ingest_id: str) -> SetManifest | None:
    """None before the first. Raises BadManifest."""
    folder = layout.set_folder(dataset, spec_id, ingest_id)
    current = read_manifest(store, f"{folder}/{layout.CURRENT}", CurrentSet)
    return read_manifest(store, f"{folder}/{current.set_digest}.json", SetManifest) if current else None
