"""Dagster partitions of a pipeline, and how they map onto each other."""

from dataclasses import dataclass
from functools import cached_property

import dagster as dg

from embed_assets.spec import EmbeddingPipeline
from embed_worker.lake.layout import delta_key


@dataclass(frozen=True)
class PipelinePartitions:
    """Datasets and strides of one pipeline.

    The deltas stand after all bases: a backfill of several datasets' bases is one range of keys, so one run.
    """

    pipeline: EmbeddingPipeline

    @cached_property
    def strides_of(self) -> dict[str, list[str]]:
        """Dataset → its strides: those of the base, then the delta's."""
        return {dataset.name: dataset.partition_keys() for dataset in self.pipeline.datasets}

    @property
    def count(self) -> int:
        """Strides of all datasets."""
        return sum(len(keys) for keys in self.strides_of.values())

    @cached_property
    def datasets(self) -> dg.StaticPartitionsDefinition:
        """Of embedding_set and vector_index."""
        return dg.StaticPartitionsDefinition(list(self.strides_of))

    @cached_property
    def snapshots(self) -> dg.StaticPartitionsDefinition:
        """Of raw_reviews: each dataset's base, and its delta."""
        names = list(self.strides_of)
        return dg.StaticPartitionsDefinition([*names, *map(delta_key, names)])

    @cached_property
    def strides(self) -> dg.StaticPartitionsDefinition:
        """Of stride_partitions and embedding_shards."""
        bases = [key for keys in self.strides_of.values() for key in keys[:-1]]
        return dg.StaticPartitionsDefinition([*bases, *(keys[-1] for keys in self.strides_of.values())])

    @cached_property
    def snapshot_to_strides(self) -> dg.StaticPartitionMapping:
        """Parent: base or delta, child: stride."""
        bases = {name: keys[:-1] for name, keys in self.strides_of.items()}
        return dg.StaticPartitionMapping(bases | {keys[-1]: [keys[-1]] for keys in self.strides_of.values()})

    @cached_property
    def strides_to_dataset(self) -> dg.StaticPartitionMapping:
        """Parent: stride, child: dataset."""
        return dg.StaticPartitionMapping({key: name for name, keys in self.strides_of.items() for key in keys})
