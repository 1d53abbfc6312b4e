"""Sources with faults: what is set aside of one, and how one is refused."""

from pathlib import Path
from typing import Any

import pytest

from embed_worker.lake.store import Store
from embed_worker.steps.errors import SourceError
from embed_worker.steps.raw import ingest
from tests.kits import pipelines as kit

GOOD = b'{"key": "a", "text": "good one"}\n'


def reasons(store: Store, source: Path, **changes: Any) -> dict[str, int]:
    """Reasons by count; also proves that rejects.parquet says the same, and that good rows are all there."""
    manifest = ingest(store, kit.dataset(str(source), **changes)).manifest
    listed = [row["reason"] for row in kit.rejects(store, manifest)]
    assert {reason: listed.count(reason) for reason in listed} == manifest.rejects_by_reason
    assert manifest.records == manifest.rows + len(listed)
    rows = kit.raw_rows(store, manifest, ["row_id", "text"])
    assert [row["row_id"] for row in rows] == list(range(manifest.rows))
    assert all(row["text"].strip() for row in rows)
    return manifest.rejects_by_reason


def refused(store: Store, lake: Path, source: Any, match: str, **changes: Any) -> str:
    """The ingest stops with one sentence, and readers see nothing."""
    with pytest.raises(SourceError, match=match) as caught:
        ingest(store, kit.dataset(source if isinstance(source, list) else str(source), **changes))
    assert kit.manifests(lake) == []
    message = str(caught.value)
    assert "\n" not in message
    message.encode()
    return message
