"""Our own cap on the starts of one managed job.

SkyPilot recovers exit code 75 and preemptions without end. A job that keeps starting and never commits anything
(out of memory at load, a node that dies each time) would bill for ever; here it ends as a bad job.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import takewhile

from embed_worker.attempt.checkpoints import Checkpoints
from embed_worker.errors import BadJob, NotBegun, Preempted, WorkerError
from embed_worker.lake.errors import BadJobFile, LakeError

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


def check_starts(checkpoints: Checkpoints, job_id: str | None) -> None:
    """Raises BadJob at the start after the last allowed one. Only fruitless starts count, in a row, of this job."""
    limit = os.environ.get(LIMIT, "")
    if not limit.isdigit() or int(limit) == 0 or job_id is None:
        return
    fruitful = checkpoints.writers()
    mine = [attempt for attempt in reversed(checkpoints.attempts()) if attempt.skypilot_job_id == job_id]
    fruitless = sum(a.begins_a_start for a in takewhile(lambda a: a.attempt not in fruitful, mine))
    if fruitless > int(limit):
        raise BadJob(
            f"managed job {job_id} started {fruitless - 1} times in a row and committed nothing; not trying again "
            f"({LIMIT}={limit}). The logs of its earlier starts say why: memory, disk, the model or the engine. A new "
            "job counts from 0"
        )
