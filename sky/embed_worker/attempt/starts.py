"""Our own cap on the starts of one managed job.

SkyPilot recovers preemptions without end, and a node starts a worker that failed once more. A job that keeps failing
between its preemptions and never commits anything would bill for ever; here it ends as a bad job. A start whose machine
was taken says nothing against the job: the hours of a job are bounded by EMBED_SKY_MAX_JOB_HOURS.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import takewhile

from embed_worker.attempt.checkpoints import Checkpoints
from embed_worker.errors import BadJob, NotBegun, Preempted, WorkerError
from embed_worker.lake import layout
from embed_worker.lake.attempts import Attempt
from embed_worker.lake.errors import BadJobFile, LakeError
from embed_worker.lake.heartbeats import Heartbeat, parse
from embed_worker.lake.store import Store

log = logging.getLogger(__name__)

LIMIT = "EMBED_MAX_STARTS"


@contextmanager
def beginning() -> Iterator[None]:
    """Raises NotBegun for whatever keeps a start from being noted in the lake: our cap would never see it."""
    try:
        yield
    except (BadJob, BadJobFile, Preempted):
        raise
    except (WorkerError, LakeError) as error:
        raise NotBegun(str(error)) from error
    except Exception as error:
        log.exception("the attempt could not begin")
        raise NotBegun(f"{type(error).__name__}: {error}") from error


def check_starts(store: Store, checkpoints: Checkpoints, job_id: str | None) -> None:
    """Raises BadJob at the start after the last allowed one. Only starts of this job count that failed by themselves,
    in a row, and left no checkpoint."""
    limit = os.environ.get(LIMIT, "")
    if not limit.isdigit() or int(limit) == 0 or job_id is None:
        return
    fruitful = checkpoints.writers()
    mine = [attempt for attempt in reversed(checkpoints.attempts()) if attempt.skypilot_job_id == job_id]
    fruitless = [a for a in takewhile(lambda a: a.attempt not in fruitful, mine) if a.begins_a_start]
    errors = [error for attempt in fruitless if (error := _failure(store, checkpoints, attempt)) is not None]
    if len(errors) >= int(limit):
        raise BadJob(
            f"managed job {job_id} failed {len(errors)} times in a row and committed nothing; not trying again "
            f"({LIMIT}={limit}). Its last error: {errors[0]}. A new job counts from 0"
        )


def _failure(store: Store, checkpoints: Checkpoints, attempt: Attempt) -> str | None:
    """The error that an attempt ended with; None where it was told to stop, or its machine was taken."""
    path = layout.heartbeat_file(checkpoints.shard.key, attempt.attempt)
    try:
        beat = parse(path, store.read(path))
    except FileNotFoundError:
        return None
    if not isinstance(beat, Heartbeat) or beat.ending in (None, "preempted"):
        return None
    return beat.error or "unknown"
