"""The figures of a committed shard, reckoned in one place for whoever shows or uses them."""

from dataclasses import dataclass

from embed_worker.lake.manifests import ShardManifest


@dataclass(frozen=True)
class ShardFigures:
    """Rates are of the node, whose engines work side by side, and None where nothing was embedded."""

    engine_seconds: float
    """That the node's engines were at work, side by side, over all attempts."""
    computed_tokens: float
    """Without those of reused rows, and without the windows whose vectors were known; those are taken to be as long as
    the others."""
    tokens_per_second: float | None
    """Computed tokens: what was not computed took no time."""
    rows_per_second: float | None
    """Embedded rows, whether their vectors were computed or known; not reused ones."""
    starts: int
    """Attempts that began on a node: its engines begin together."""
    machine: str
    region: str | None
    """Of the last attempt that tells."""
    price_per_hour: float | None
    """Of the last attempt that tells."""


def figures_of(manifest: ShardManifest) -> ShardFigures:
    hardware, latest = manifest.hardware, manifest.attempts[::-1]
    seconds = manifest.seconds.get("engine", 0.0) / hardware.engines  # the manifest's are summed over engines
    computed = manifest.tokens_embedded * max(0.0, 1 - manifest.duplicate_windows / max(manifest.windows_embedded, 1))
    return ShardFigures(
        engine_seconds=seconds,
        computed_tokens=computed,
        tokens_per_second=computed / seconds if seconds > 0 and computed > 0 else None,
        rows_per_second=manifest.rows_embedded / seconds if seconds > 0 and manifest.rows_embedded else None,
        starts=sum(attempt.begins_a_start for attempt in manifest.attempts),
        machine=hardware.machine,
        region=next((attempt.region for attempt in latest if attempt.region), None),
        price_per_hour=next((attempt.price_per_hour for attempt in latest if attempt.price_per_hour), None),
    )
