"""What an event says of the inputs it was made from, in the tags that Dagster reads staleness from.

Dagster writes them for Outputs only; events that are logged at their commit carry them from here.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import dagster as dg

DATA_VERSION = "dagster/data_version"
UNKNOWN = "INITIAL"
"""Dagster's word for the data version of what was never materialized."""


@dataclass(frozen=True)
class Read:
    """What was read of one input."""

    version: str = UNKNOWN
    event: int | None = None


Inputs = dict[dg.AssetKey, Read]


class Provenance:
    """The inputs of one asset, as the resolved definitions have them: a user may have added some."""

    def __init__(self, instance: dg.DagsterInstance, graph: Any, key: dg.AssetKey) -> None:
        """`graph`: Dagster's asset graph, which has the asset."""
        self._instance, self._graph, self.key = instance, graph, key
        self._node = graph.get(key)

    @property
    def partitions(self) -> list[str]:
        definition = self._node.partitions_def
        return list(definition.get_partition_keys()) if definition else []

    def inputs(self, partitions: Iterable[str]) -> dict[str, Inputs]:
        """What each partition reads: two queries an input, whatever the number of partitions."""
        keys = list(partitions)
        found: dict[str, Inputs] = {key: {} for key in keys}
        for parent, upstream in self._upstream.items():
            if upstream is None:
                read = self._latest(parent)
                for key in keys:
                    found[key][parent] = read
                continue
            wanted = {key: sorted(upstream(key)) for key in keys}
            there = self._materialized(parent, {name for names in wanted.values() for name in names})
            for key in keys:
                found[key][parent] = _read([there[name] for name in wanted[key] if name in there])
        return found

    def tags(self, data_version: str, inputs: Inputs) -> dict[str, str]:
        tags = {DATA_VERSION: data_version, "dagster/data_version_is_user_provided": "true"}
        if self._node.code_version is not None:
            tags["dagster/code_version"] = self._node.code_version
        for key, read in inputs.items():
            name = key.to_user_string()
            tags[f"dagster/input_data_version/{name}"] = read.version
            tags[f"dagster/input_event_pointer/{name}"] = str(read.event) if read.event else "NULL"
        return tags

    def recorded(self, partitions: Iterable[str]) -> dict[str, str | None]:
        """The data version of each of these partitions that is materialized."""
        return {name: version for name, (_, version) in self._materialized(self.key, set(partitions)).items()}

    @cached_property
    def _upstream(self) -> dict[dg.AssetKey, Any]:
        """Input → the partitions of it that a partition reads; None where the input has no partitions."""
        return {parent: self._mapped(parent) for parent in sorted(self._node.parent_keys)}

    def _mapped(self, parent: dg.AssetKey) -> Any:
        definition = self._graph.get(parent).partitions_def if self._graph.has(parent) else None
        if definition is None:
            return None
        mapping = self._graph.get_partition_mapping(self.key, parent)
        if isinstance(mapping, dg.IdentityPartitionMapping):
            return lambda key: [key]
        if isinstance(mapping, dg.StaticPartitionMapping):  # asked one by one it would cost the square
            inverse: dict[str, list[str]] = {}
            for above, below in mapping.downstream_partition_keys_by_upstream_partition_key.items():
                for name in [below] if isinstance(below, str) else below:
                    inverse.setdefault(name, []).append(above)
            return lambda key: inverse.get(key, [])
        ask = self._graph.get_parent_partition_keys_for_child
        return lambda key: ask(key, parent, self.key).partitions_subset.get_partition_keys()

    def _materialized(self, key: dg.AssetKey, partitions: set[str]) -> dict[str, tuple[int, str | None]]:
        if not partitions:
            return {}
        storage, kind = self._instance.event_log_storage, dg.DagsterEventType.ASSET_MATERIALIZATION
        ids = storage.get_latest_storage_id_by_partition(key, kind, partitions)
        end = max(ids.values(), default=0) + 1  # of these very events, whatever has been added since
        tags = storage.get_latest_tags_by_partition(key, kind, [DATA_VERSION], sorted(partitions), before_cursor=end)
        return {name: (event, tags.get(name, {}).get(DATA_VERSION)) for name, event in ids.items()}

    def _latest(self, key: dg.AssetKey) -> Read:
        record = next(iter(self._instance.fetch_materializations(key, limit=1).records), None)
        record = record or next(iter(self._instance.fetch_observations(key, limit=1).records), None)
        if record is None:
            return Read()
        event = record.asset_materialization or record.event_log_entry.asset_observation
        tags = (event.tags if event else None) or {}
        return Read(tags.get(DATA_VERSION, UNKNOWN), record.storage_id)


def _read(parents: list[tuple[int, str | None]]) -> Read:
    """Of a partitioned input Dagster keeps the digest of the versions of the partitions that were read."""
    versions = [version for _, version in parents if version is not None]
    if not versions:
        return Read(event=max((event for event, _ in parents), default=None))
    return Read(hashlib.sha256("".join(versions).encode()).hexdigest(), max(event for event, _ in parents))
