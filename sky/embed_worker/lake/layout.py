"""Where everything lies in the lake (format 2). Pure path arithmetic, relative to the lake's root."""

import re
import uuid
from dataclasses import dataclass
from typing import Annotated, Final, Literal, get_args

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

from embed_worker.lake.identity import key_words

FORMAT: Final = 2
MANIFEST = "_manifest.json"
BASE = "_base.json"
LATEST = "_latest.json"
SEEN = "_seen.json"
PARTS = "parts"
SNAPSHOTS = "snapshots"
DELTAS = "deltas"
CURRENT = "_current.json"
REJECTS = "rejects.parquet"
RETIRED = "_retired-"
"""First part of a manifest's name once its shard was found damaged."""
TEMPORARY = re.compile(r"\..+\.[0-9a-f]{32}\.tmp")
DATASET_NAME = r"[a-z0-9][a-z0-9_-]*(?:\.[a-z0-9_-]+)*"

DELTA: Final = "delta"
"""Last word of the partition of a dataset that holds what has changed since its base."""

Method = Literal["content", "stride", "contiguous", "delta"]
"""`delta`: what the delta has added, in one."""


def part_name(index: int) -> str:
    return f"part-{index:05d}.parquet"


def own_name(name: str) -> str:
    """A name beside a fixed one that no other attempt has: `part-00000.3f2a91c07be4.parquet`."""
    stem, dot, suffix = name.rpartition(".")
    return f"{stem}.{uuid.uuid4().hex[:12]}{dot}{suffix}"


def temporary_name(name: str) -> str:
    """Of a file that a put on a local disk is writing, beside its target."""
    return f".{name}.{uuid.uuid4().hex}.tmp"


def is_temporary(path: str) -> bool:
    """Whether a put is writing this file, or was when it was killed."""
    return TEMPORARY.fullmatch(path.rsplit("/", 1)[-1]) is not None


def partition_key(dataset: str, stride: int) -> str:
    """Dagster's key of one stride: `books-00042`."""
    return f"{dataset}-{stride:05d}"


def delta_key(dataset: str) -> str:
    """Dagster's key of a dataset's delta: `books-delta`."""
    return f"{dataset}-{DELTA}"


def split_partition_key(key: str) -> tuple[str, int | None]:
    """Dataset and stride; None for the stride of the delta."""
    dataset, _, stride = key.rpartition("-")
    return dataset, None if stride == DELTA else int(stride)


def dataset_of(key: str) -> str:
    """Of a partition's key."""
    return key.rpartition("-")[0]


@dataclass(frozen=True)
class Partitioning:
    """How the rows of a snapshot fall into `count` partitions."""

    method: Method
    count: int

    @property
    def name(self) -> str:
        """Folder name, such as `content-00500`."""
        return DELTA if self.method == DELTA else f"{self.method}-{self.count:05d}"

    @classmethod
    def parse(cls, name: str) -> "Partitioning":
        if name == DELTA:
            return WHOLE
        match = re.fullmatch(r"([a-z]+)-(\d{5})", name)
        if not match or match[1] == DELTA or match[1] not in get_args(Method):
            raise ValueError(f"{name!r} does not name a partitioning, such as content-00500")
        return cls(match[1], int(match[2]))  # type: ignore[arg-type]

    def stride_of(self, row_ids: np.ndarray, keys: pa.Array, rows: int) -> np.ndarray:
        """The partition of each row of a snapshot of `rows` rows. `content`: the place of its text's key in `count`
        equal ranges, so that a text keeps its partition from snapshot to snapshot."""
        if self.method == DELTA:
            return np.zeros(len(row_ids), np.int64)
        if self.method == "content":
            return (key_words(keys)[:, 0].astype(np.uint64) * np.uint64(self.count) >> np.uint64(32)).astype(np.int64)
        if self.method == "stride":
            return row_ids % self.count
        bounds = np.array([(s + 1) * rows // self.count for s in range(self.count)])
        return np.searchsorted(bounds, row_ids, side="right")


WHOLE: Final = Partitioning(DELTA, 1)
"""Of a delta: it is not cut."""


def raw_folder(dataset: str, ingest_id: str) -> str:
    """All that one way of reading has made of a dataset: its parts, their snapshots, the pointers."""
    return f"raw_reviews/{dataset}/{ingest_id}"


def part_record(part_id: str) -> str:
    """The commit of a part, relative to `raw_folder` as the names beside it are."""
    return f"{PARTS}/{part_id}.json"


def part_file(part_id: str) -> str:
    return f"{PARTS}/{part_id}.parquet"


def part_rejects(part_id: str) -> str:
    return f"{PARTS}/{part_id}.{REJECTS}"


def raw_seen(dataset: str, ingest_id: str) -> str:
    """The source's files as they were found last, where the snapshot that they made is an earlier one's."""
    return f"{raw_folder(dataset, ingest_id)}/{SEEN}"


def delta_name(base: str, latest: str) -> str:
    """Of the delta between two snapshots: it stands where a snapshot's name does."""
    return f"{base}-{latest}"


def delta_file(dataset: str, ingest_id: str, base: str, latest: str) -> str:
    """The commit of a delta."""
    return f"{raw_folder(dataset, ingest_id)}/{DELTAS}/{delta_name(base, latest)}.json"


def removed_file(base: str, latest: str) -> str:
    """Rows that a delta removes; relative to `raw_folder`."""
    return f"{DELTAS}/{delta_name(base, latest)}.removed.parquet"


def snapshot_file(dataset: str, ingest_id: str, snapshot: str) -> str:
    return f"{raw_folder(dataset, ingest_id)}/{SNAPSHOTS}/{snapshot}.json"


def raw_base(dataset: str, ingest_id: str) -> str:
    return f"{raw_folder(dataset, ingest_id)}/{BASE}"


def raw_latest(dataset: str, ingest_id: str) -> str:
    return f"{raw_folder(dataset, ingest_id)}/{LATEST}"


def strides_folder(dataset: str, ingest_id: str, partitioning: Partitioning) -> str:
    return f"stride_partitions/{dataset}/{ingest_id}/{partitioning.name}"


def cut_file(folder: str, snapshot: str) -> str:
    """The commit of a snapshot's cut, in the cut's folder."""
    return f"{folder}/{snapshot}.json"


def slice_file(folder: str, slice_id: str) -> str:
    """The commit of a slice, in the cut's folder."""
    return f"{folder}/slices/{slice_id}.json"


class ShardId(BaseModel):
    """Which shard: the rows of one stride, or those that the delta adds, embedded by one spec.

    Gives its key, its folder, its commit.

    Snapshots that hold the same rows in a stride share its shard.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    dataset: Annotated[str, Field(pattern=rf"^{DATASET_NAME}$", max_length=63)]
    spec_id: Annotated[str, Field(pattern=r"^[a-z0-9-]+$")]
    method: Method
    count: Annotated[int, Field(ge=1)]
    stride: Annotated[int, Field(ge=0)]
    input_digest: Annotated[str, Field(pattern=r"^[0-9a-f]+$")]
    """Of the stride's rows."""

    @classmethod
    def of(cls, dataset: str, spec_id: str, partitioning: Partitioning, stride: int, input_digest: str) -> "ShardId":
        return cls(
            dataset=dataset, spec_id=spec_id, method=partitioning.method, count=partitioning.count, stride=stride,
            input_digest=input_digest,
        )  # fmt: skip

    def __str__(self) -> str:
        return self.key

    @property
    def partitioning(self) -> Partitioning:
        return Partitioning(self.method, self.count)

    @property
    def key(self) -> str:
        """Dagster's partition key."""
        return delta_key(self.dataset) if self.method == DELTA else partition_key(self.dataset, self.stride)

    @property
    def folder(self) -> str:
        """Relative to the lake, as all paths here."""
        folder = shards_folder(self.dataset, self.spec_id, self.partitioning)
        return f"{folder}/{self.stride:05d}/{self.input_digest}"

    @property
    def manifest_path(self) -> str:
        """Where the commit lies, once it does."""
        return f"{self.folder}/{MANIFEST}"


def shards_folder(dataset: str, spec_id: str, partitioning: Partitioning) -> str:
    return f"embedding_shards/{dataset}/{spec_id}/{partitioning.name}"


def set_folder(dataset: str, spec_id: str, ingest_id: str) -> str:
    """Complete sets of shards, and the pointer to the current one."""
    return f"embedding_sets/{dataset}/{spec_id}/{ingest_id}"


def canaries_file(spec_id: str) -> str:
    """The canary vectors that every shard of this spec is held against."""
    return f"embedding_spaces/{spec_id}.json"


def index_folder(spec_id: str) -> str:
    """LanceDB's database of a spec: a table a dataset."""
    return f"vector_index/{spec_id}"


def index_record(dataset: str, spec_id: str) -> str:
    """Says which version of a dataset's table readers take."""
    return f"{index_folder(spec_id)}/{dataset}.json"


def job_file(partition: str, fingerprint: str) -> str:
    return f"jobs/{partition}/{fingerprint}.json"


def reservations_folder(pipeline: str) -> str:
    """Dollars that runs of a pipeline have put aside for what they launch."""
    return f"reserved/{pipeline}"


def heartbeat_file(partition: str, attempt: str) -> str:
    return f"progress/{partition}/{attempt}.json"
