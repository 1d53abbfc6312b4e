"""What lies in a lake, found by listing its folders."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from embed_worker.lake import layout
from embed_worker.lake.layout import Partitioning, ShardId
from embed_worker.lake.parallel import in_parallel
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
                    if name.isdigit():
                        yield ShardId.of(dataset, spec_id, partitioning, int(name))


def heartbeats(store: Store) -> Iterator[tuple[str, dict[str, Any]]]:
    """(path, state) of every heartbeat; one that cannot be read is skipped, the next beat replaces it."""
    paths = [path for path, _ in store.walk("progress") if path.count("/") == 2 and not layout.is_temporary(path)]

    def read(path: str) -> Any:
        try:
            return store.read_json(path)
        except (FileNotFoundError, ValueError):
            return None

    for path, state in zip(paths, in_parallel(read, paths), strict=True):
        if isinstance(state, dict):
            yield path, state


def age_seconds(state: dict[str, Any]) -> float:
    """Seconds since a heartbeat was written; infinite where it does not say."""
    try:
        then = datetime.fromisoformat(str(state["at"]))
        return (datetime.now(UTC) - then).total_seconds()
    except (KeyError, ValueError, TypeError):
        return float("inf")


def _parsed(names: list[str]) -> list[Partitioning]:
    found = []
    for name in names:
        try:
            found.append(Partitioning.parse(name))
        except ValueError:
            continue
    return found
