"""The steps at which a worker is killed, and the stores it is killed on."""

import os

from embed_worker.lake import failpoints

KILLS = int(os.environ.get("EMBED_CHAOS_KILLS", "8"))
"""At random failpoints and moments, beside one at each failpoint."""
LOCAL_ONLY = {"store.temporary", "store.linked", "store.replacing"}
REMOTE_ONLY = {"store.put"}
START = ["attempt.registered", "store.replacing", "attempt.fetched", "reuse.copied", "reuse.gathered", "attempt.loaded"]
WORK = ["checkpoint.written", "store.temporary", "store.linked", "store.put", "checkpoint.data", "checkpoint.record"]
WORK += ["checkpoint.lost", "part.written", "part.published", "part.taken"]
END = ["attempt.embedded", "rejects.published", "manifest.ready"]
COMMIT = ["manifest.created", "attempt.committed"]
SWEEP = ["sweep.begun", "sweep.checkpoints"]
SPACE = "store.temporary:2"
"""Once all checkpoints are there: the file of the canary vectors, whose temporary lies outside of the shard."""
STORMS = [
    [*START[::2], *WORK[::2], END[0], SPACE, END[2], COMMIT[0], SWEEP[1]],
    [*START[1::2], *WORK[1::2], END[1], COMMIT[1], SWEEP[0]],
]
"""Every failpoint once, each while it can still be reached."""
STEPS = [name for name in failpoints.PLATFORM if name.startswith(("raw.", "slice.", "strides."))]
"""Of ingest and cut."""
STEPS_STORM = ["store.temporary", "store.linked", "store.put", "raw.parsed", "raw.data", "raw.part", "raw.part:3"]
STEPS_STORM += ["raw.written", "raw.keys", "raw.ready", "raw.committed", "raw.pointed", "store.replacing:1"]
STEPS_STORM += ["raw.based", "slice.written", "slice.published", "slice.committed", "strides.slice:2"]
STEPS_STORM += ["strides.cut", "strides.ready", "strides.committed"]
"""Every one, while it can still be reached."""
STORES = ["lake", "s3_root"]
LONG_STORES = [*STORES, "seaweed_root"] if KILLS > 100 else STORES


def applies(name: str, where: str) -> bool:
    return name.split(":", maxsplit=1)[0] not in (REMOTE_ONLY if where == "lake" else LOCAL_ONLY)
