"""The guard before a new snapshot: one that loses or changes very many rows is more often a fault than meant."""

from embed_assets.spec import DatasetSpec
from embed_worker.lake.deltas import DeltaManifest
from embed_worker.lake.errors import BadManifest, DamagedData
from embed_worker.lake.snapshots import RawManifest
from embed_worker.steps.difference import make_delta
from embed_worker.steps.errors import SourceError
from resources.lake import Lake


class GuardedSnapshot(SourceError):
    """A snapshot that is not taken until a person confirms it."""


def changes_against_latest(lake: Lake, made: RawManifest) -> DeltaManifest | None:
    """What a snapshot has and lacks against the latest; None where there is none, or none of the same range of rows."""
    try:
        latest = lake.latest(made.dataset, made.ingest_id)
        if latest is None or latest.ingest["rows"] != made.ingest["rows"]:
            return None
        return make_delta(lake.store, latest, made)
    except (BadManifest, DamagedData):  # of the one before, which stands in nobody's way
        return None


def guard(dataset: DatasetSpec, found: DeltaManifest) -> None:
    """Raises GuardedSnapshot with the figures where more is gone or changed than the dataset allows."""
    gone = found.rows_removed - found.rows_changed
    for what, rows, key, limit in (
        ("loses", gone, "max_removed", dataset.max_removed),
        ("changes", found.rows_changed, "max_changed", dataset.max_changed),
    ):
        if rows > limit * found.base_rows:
            raise GuardedSnapshot(
                f"dataset {dataset.name}: the source {what} {rows:,} of {found.base_rows:,} rows "
                f"({rows / found.base_rows:.1%}), more than {key} {limit:.0%} (new "
                f"{found.rows - found.rows_changed:,}, changed {found.rows_changed:,}, removed {gone:,}). Nothing is "
                "taken of it. If it is meant, materialize it again with the config `confirm: true`"
            )
