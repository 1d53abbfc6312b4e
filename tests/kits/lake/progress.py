"""Heartbeats as workers leave them in a local lake, of any age and from any clock."""

import os
import time
from datetime import UTC, datetime
from typing import Any

from embed_worker.lake.heartbeats import Heartbeat
from embed_worker.lake.job import EmbedJob
from embed_worker.lake.store import Store, to_json


def put_beat(
    store: Store, job: EmbedJob, attempt: str = "a", *, age: float = 0.0, clock: float = 0.0, **changes: Any
) -> str:
    """Its path. `age`: seconds since it was written; `clock`: seconds by which the worker's clock is ahead."""
    told = datetime.fromtimestamp(time.time() - age + clock, UTC).replace(microsecond=0)
    values = {
        "pipeline": job.pipeline, "shard": job.shard, "attempt": attempt, "rows": job.input.rows,
        "every_seconds": 5.0, "phase": "embedding", "seconds": 40.0, "at": told,
    }  # fmt: skip
    beat = Heartbeat.model_validate(values | changes)
    store.replace(beat.path, to_json(beat.model_dump(mode="json", exclude_none=True)))
    if store.is_local:
        grow_old(store, beat.path, age)
    return beat.path


def grow_old(store: Store, path: str, seconds: float) -> None:
    """As if the file had been written so long ago."""
    then = time.time() - seconds
    os.utime(store.path(path), (then, then))
