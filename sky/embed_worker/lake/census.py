"""What lies in a lake, found by listing its folders."""

from collections.abc import Iterator

from embed_worker.lake import layout
from embed_worker.lake.layout import Partitioning, ShardId
from embed_worker.lake.store import Store


def datasets(store: Store, asset: str) -> list[str]:
    return store.list(asset)


def snapshots(store: Store, dataset: str) -> list[str]:
    """Snapshot folders of a dataset, committed or not."""
    return [name for name in store.list(f"raw_reviews/{dataset}") if not name.startswith(("_", "."))]


def partitionings(store: Store, dataset: str) -> list[Partitioning]:
    """Partitionings of a dataset in stride_partitions."""
    return _parsed(store.list(f"stride_partitions/{dataset}"))


def shards(store: Store) -> Iterator[ShardId]:
    """Every shard folder of the lake."""
    for dataset in datasets(store, "embedding_shards"):
        for spec_id in store.list(f"embedding_shards/{dataset}"):
            for partitioning in _parsed(store.list(f"embedding_shards/{dataset}/{spec_id}")):
                folder = layout.shards_folder(dataset, spec_id, partitioning)
                for name in store.list(folder):
                    if (shard := shard_at(f"{folder}/{name}")) is not None:
                        yield shard


def shard_at(folder: str) -> ShardId | None:
    """Whose folder of embedding_shards a path is; None where it is no shard's."""
    match folder.split("/"):
        case ["embedding_shards", dataset, spec_id, name, stride] if stride.isdigit():
            try:
                return ShardId.of(dataset, spec_id, Partitioning.parse(name), int(stride))
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
