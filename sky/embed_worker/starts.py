"""Our own cap on the starts of one managed job.

SkyPilot recovers exit code 75 and preemptions without end. A job that keeps starting and never commits anything
(out of memory at load, a node that dies each time) would bill for ever; here it ends as a bad job.
"""

import os
from itertools import takewhile

from embed_worker.checkpoints import Checkpoints
from embed_worker.errors import BadJob

LIMIT = "EMBED_MAX_STARTS"
JOB = "skypilot_job_id"


def check_starts(checkpoints: Checkpoints, job_id: object) -> None:
    """Raises BadJob at the start after the last allowed one. Only fruitless starts count, in a row, of this job."""
    limit = os.environ.get(LIMIT, "")
    if not limit.isdigit() or int(limit) == 0 or job_id is None:
        return
    fruitful = checkpoints.writers()
    mine = [str(attempt["attempt"]) for attempt in checkpoints.attempts() if attempt.get(JOB) == job_id]
    fruitless = list(takewhile(lambda name: name not in fruitful, reversed(mine)))
    if len(fruitless) > int(limit):
        raise BadJob(
            f"managed job {job_id} started {len(fruitless) - 1} times in a row and committed nothing; not trying again "
            f"({LIMIT}={limit}). The logs of its earlier starts say why: memory, disk, the model or the engine. A new "
            "job counts from 0"
        )
