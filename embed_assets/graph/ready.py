"""What of the lake an asset begins from: the snapshot and the strides that are this pipeline's."""

from collections.abc import Mapping
from typing import Any

from embed_assets.spec import DatasetSpec, RowRange
from embed_worker.lake.deltas import DeltaManifest
from embed_worker.lake.errors import NotReady
from embed_worker.lake.layout import WHOLE, delta_key
from embed_worker.lake.manifests import StridesManifest
from embed_worker.lake.snapshots import RawManifest
from resources.lake import Lake


def current_snapshot(lake: Lake, dataset: DatasetSpec) -> RawManifest:
    """Raises NotReady where there is none, or where another code location's `rows` made it."""
    raw = lake.base(dataset.name, dataset.ingest_id)
    if raw is None:
        raise NotReady(f"raw_reviews of {dataset.name} is not in {lake.root}; materialize it first")
    if not _is_of(raw.ingest["rows"], dataset.rows):
        raise NotReady(
            f"snapshot {raw.snapshot} of {dataset.name} was made with another range of rows than this pipeline's; "
            "materialize raw_reviews again. Where another code location writes to this lake, give one of the two "
            "datasets another name"
        )
    return raw


def current_delta(lake: Lake, raw: RawManifest) -> DeltaManifest:
    """What the latest snapshot has and lacks against the base. Raises NotReady while that is not made."""
    delta = lake.delta(raw)
    if delta is None:
        raise NotReady(
            f"raw_reviews of {delta_key(raw.dataset)} is not there for the latest snapshot; materialize it first"
        )
    return delta


def current_strides(lake: Lake, dataset: DatasetSpec, raw: RawManifest) -> StridesManifest:
    """Of the base."""
    cut = lake.cut(raw, dataset.cut)
    if cut is None:
        raise NotReady(
            f"stride_partitions of {dataset.name} are not there for snapshot {raw.snapshot} "
            f"({dataset.strides} strides, {dataset.partitioning}); materialize them first"
        )
    return cut


def delta_strides(lake: Lake, delta: DeltaManifest) -> StridesManifest:
    """Of what a delta adds, in one."""
    cut = lake.cut(delta, WHOLE)
    if cut is None:
        raise NotReady(
            f"stride_partitions of {delta_key(delta.dataset)} is not there for delta {delta.snapshot}; materialize it "
            "first"
        )
    return cut


def _is_of(made: Mapping[str, Any], asked: RowRange) -> bool:
    """The same rows, or a sample of them."""
    end = made.get("end")
    return made.get("start") == asked.start and (end == asked.end or (end is not None and end <= (asked.end or end)))
