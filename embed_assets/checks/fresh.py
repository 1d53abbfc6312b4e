"""`source_fresh`: Dagster's own freshness is an asset's, so one dataset would hide behind another."""

from collections.abc import Iterator
from datetime import UTC, datetime

from embed_assets.checks.outcome import Check, CheckOutcome
from embed_assets.checks.source import RAW_CHECKS, RawView
from embed_assets.spec import EmbeddingPipeline
from embed_worker.lake.snapshots import RawManifest

TIMES = ("mtime", "LastModified", "last_modified", "updated", "created")
"""What stores call the time at which a file was written."""


def source_fresh(view: RawView) -> CheckOutcome:
    """A file of the source was changed within the dataset's `fresh_hours`."""
    assert view.fresh_hours is not None
    newest = max(_changed(view.raw), default=datetime.fromisoformat(view.raw.created_at))
    hours = (datetime.now(UTC) - newest).total_seconds() / 3600
    text = f"the newest file is of {newest:%Y-%m-%d %H:%M} UTC, {hours:,.1f} hours ago"
    return CheckOutcome(
        hours <= view.fresh_hours, f"{text}; fresh_hours is {view.fresh_hours:g}", {"hours": round(hours, 2)}
    )


def raw_checks(pipeline: EmbeddingPipeline) -> dict[str, Check[RawView]]:
    """Of raw_reviews; `source_fresh` is among them where a dataset gives hours."""
    fresh = any(dataset.fresh_hours is not None for dataset in pipeline.datasets)
    return RAW_CHECKS | ({"source_fresh": source_fresh} if fresh else {})


def _changed(raw: RawManifest) -> Iterator[datetime]:
    for entry in raw.source:
        for name in TIMES:
            if (said := (entry.stamp or {}).get(name)) and (at := _time(said)) is not None:
                yield at
                break


def _time(said: str) -> datetime | None:
    try:
        return datetime.fromtimestamp(float(said), UTC)
    except ValueError:
        pass
    try:
        found = datetime.fromisoformat(said)
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
