"""What lies in a lake, found by listing its folders."""

import re
from collections.abc import Iterator

from embed_worker.lake import layout
from embed_worker.lake.layout import Partitioning, ShardId
from embed_worker.lake.store import Store

ID = re.compile(r"[0-9a-f]+")


def datasets(store: Store, asset: str) -> list[str]:
    return store.list(asset)


def ingests(store: Store, dataset: str) -> list[str]:
    """Ways in which records of a dataset have become rows."""
    return [name for name in store.list(f"raw_reviews/{dataset}") if ID.fullmatch(name)]


def snapshots(store: Store, dataset: str, ingest_id: str) -> list[str]:
    """Snapshots of a dataset that are committed."""
    names = store.list(f"{layout.raw_folder(dataset, ingest_id)}/{layout.SNAPSHOTS}")
    return [name.removesuffix(".json") for name in names if name.endswith(".json") and ID.fullmatch(name[:-5])]


def cuts(store: Store, dataset: str) -> list[tuple[str, Partitioning]]:
    """Ingest ids and partitionings of a dataset in stride_partitions."""
    found = []
    for ingest_id in store.list(f"stride_partitions/{dataset}"):
        found += [(ingest_id, p) for p in _parsed(store.list(f"stride_partitions/{dataset}/{ingest_id}"))]
    return found


def shards(store: Store) -> Iterator[ShardId]:
    """Every shard folder of the lake."""
    for dataset in datasets(store, "embedding_shards"):
        for spec_id in store.list(f"embedding_shards/{dataset}"):
            for partitioning in _parsed(store.list(f"embedding_shards/{dataset}/{spec_id}")):
                folder = layout.shards_folder(dataset, spec_id, partitioning)
                for stride in store.list(folder):
                    for digest in store.list(f"{folder}/{stride}"):
                        if (shard := shard_at(f"{folder}/{stride}/{digest}")) is not None:
                            yield shard


def shard_at(folder: str) -> ShardId | None:
    """Whose folder of embedding_shards a path is; None where it is no shard's."""
    match folder.split("/"):
        case ["embedding_shards", dataset, spec_id, name, stride, digest] if stride.isdigit():
            try:
                return ShardId.of(dataset, spec_id, Partitioning.parse(name), int(stride), digest)
            except ValueError:
                return None
    return None


def _parsed(names: list[str]) -> list[Partitioning]:
    found = []
    for name in names:
        try:
            found.append(Partitioning.parse(name))
        except ValueError:
            continue
    return found
