"""What of the lake an asset begins from: the snapshot and the strides that are this pipeline's."""

from collections.abc import Mapping
from typing import Any

from embed_assets.spec import DatasetSpec
from embed_worker.lake.errors import NotReady
from embed_worker.lake.manifests import RawManifest, StridesManifest
from resources.lake import Lake


def current_snapshot(lake: Lake, dataset: DatasetSpec) -> RawManifest:
    """Raises NotReady where there is none, or where it is another pipeline's: rows of another filter are not ours."""
    raw = lake.latest_snapshot(dataset.name)
    if raw is None:
        raise NotReady(f"raw_reviews of {dataset.name} is not in {lake.root}; materialize it first")
    if differs := _differences(raw.ingest, dataset.ingest_identity()):
        raise NotReady(
            f"snapshot {raw.snapshot} of {dataset.name} was made with another {', '.join(differs)} than this "
            "pipeline's; materialize raw_reviews again. Where another code location writes to this lake, give one of "
            "the two datasets another name"
        )
    return raw


def current_strides(lake: Lake, dataset: DatasetSpec, raw: RawManifest) -> StridesManifest:
    cut = lake.cut(raw, dataset.cut)
    if cut is None:
        raise NotReady(
            f"stride_partitions of {dataset.name} are not there for snapshot {raw.snapshot} "
            f"({dataset.strides} strides, {dataset.partitioning}); materialize them first"
        )
    return cut


def _differences(made: Mapping[str, Any], asked: Mapping[str, Any]) -> list[str]:
    """Keys in which a snapshot was made otherwise; a sample of the same rows is no difference."""
    differs = [key for key in asked if made.get(key) != asked[key]]
    if differs == ["rows"]:
        begun, ended = made.get("rows") or {}, asked["rows"]
        end = begun.get("end")
        if begun.get("start") == ended["start"] and end is not None and end <= (ended["end"] or end):
            return []
    return differs
