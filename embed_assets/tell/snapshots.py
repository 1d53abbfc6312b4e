"""What a snapshot and a stride tell in the Dagster UI: a few figures worth a plot, the rest in `details`."""

from typing import Any

import dagster as dg

from embed_assets.tell.lineage import STRIDE_SCHEMA, column_schema, same_columns
from embed_assets.tell.summary import lengths_metadata
from embed_worker.lake import layout
from embed_worker.lake.deltas import DeltaManifest
from embed_worker.lake.manifests import StrideEntry, StridesManifest
from embed_worker.lake.snapshots import RawManifest
from resources.lake import Lake


def snapshot_metadata(lake: Lake, raw: RawManifest, adopted: bool) -> dict[str, Any]:
    return {
        "dagster/partition_row_count": raw.rows,
        "dagster/uri": lake.url(raw.path),
        "dagster/column_schema": column_schema(raw),
        "records": raw.records,
        "rejects": sum(raw.rejects_by_reason.values()),
        "text_megabytes": round(raw.text_bytes / 1e6, 3),
        **_lengths(lake, raw),
        "seconds": raw.seconds,
        "next": "stride_partitions of this dataset",
        "details": {
            "snapshot": raw.snapshot,
            "adopted": adopted,
            "rejects_by_reason": raw.rejects_by_reason,
            "nulled_values": raw.nulled,
            "where_matched": raw.matched,
            "warnings": raw.warnings,
            "parts": len(raw.parts),
            "bytes": sum(part.file.bytes for part in raw.parts),
            "source": [entry.url for entry in raw.source],
        },
    }


def delta_metadata(lake: Lake, delta: DeltaManifest) -> dict[str, Any]:
    """Of a delta, over that of its latest snapshot."""
    return {
        "dagster/partition_row_count": delta.rows,
        "dagster/uri": lake.url(delta.path if delta.base != delta.latest else delta.folder),
        "rows_added": delta.rows,
        "rows_removed": delta.rows_removed,
        "seconds": delta.seconds,
        "next": f"stride_partitions of {layout.delta_key(delta.dataset)}" if delta.rows else "embedding_set",
        "base": delta.base,
        "latest": delta.latest,
    }


def change_metadata(found: DeltaManifest) -> dict[str, int]:
    """Of a snapshot against the one before."""
    return {
        "new": found.rows - found.rows_changed,
        "changed": found.rows_changed,
        "removed": found.rows_removed - found.rows_changed,
        "unchanged": found.rows_unchanged,
    }


def stride_metadata(
    lake: Lake, cut: StridesManifest, entry: StrideEntry, raw_key: dg.AssetKey, adopted: bool
) -> dict[str, Any]:
    return {
        "dagster/partition_row_count": entry.rows,
        "dagster/uri": lake.url(f"{cut.folder}/slices"),
        "dagster/column_schema": STRIDE_SCHEMA,
        "dagster/column_lineage": same_columns(raw_key, ["id", "text_key", "text"]),
        "bytes": entry.bytes,
        "next": "embedding_shards of this partition",
        "details": {
            "snapshot": cut.snapshot,
            "adopted": adopted,
            "partitioning": f"{cut.method}, {cut.count} partitions",
            "digest": entry.digest,
            "slices": len(cut.slices),
            "seconds_all_strides": cut.seconds,
        },
    }


def _lengths(lake: Lake, raw: RawManifest) -> dict[str, Any]:
    """A picture is never worth a snapshot."""
    try:
        found = lengths_metadata(lake.store, raw)
    except Exception as error:  # as many kinds as there are stores
        return {"text_lengths": f"unknown: {' '.join(str(error).split())[:300]}"}
    return {**found, "text_lengths": dg.MetadataValue.md(found["text_lengths"])} if found else {}
