"""Named places where a test may have this process killed or frozen. Unarmed, reaching one is a comparison.

`EMBED_FAILPOINT=manifest.created:2` sends SIGKILL to the process when it gets there for the second time,
`EMBED_FAILPOINT=manifest.ready:1:stop` sends SIGSTOP.
"""

import os
import signal
import threading

VARIABLE = "EMBED_FAILPOINT"

WORKER = (
    "attempt.registered",  # before anything is read
    "reuse.copied",  # vectors of one file of an earlier shard are on the scratch disk
    "reuse.gathered",  # of all of them
    "attempt.fetched",  # the input is proved, the model not loaded
    "attempt.loaded",
    "attempt.embedded",  # all checkpoints are committed
    "attempt.committed",  # the manifest is there, nothing is swept
    "checkpoint.written",  # on the scratch disk only
    "checkpoint.data",  # in the lake, without its record
    "checkpoint.record",
    "checkpoint.lost",  # another attempt's record was first; the own data is still there
    "part.written",
    "part.published",
    "part.taken",  # the part's name is taken by other content
    "rejects.published",
    "manifest.ready",
    "manifest.created",
    "sweep.begun",
    "sweep.checkpoints",  # they are gone, the surplus files are not
    "store.temporary",  # local: a small file is written, not yet under its name
    "store.linked",  # local: it has its name, the temporary one is still there
    "store.replacing",
    "store.put",  # remote: the server has it, its answer is not used yet
)
PLATFORM = (
    "raw.parsed",  # a part is on the scratch disk only
    "raw.data",  # its files are in the lake, without its record
    "raw.part",
    "raw.written",  # all parts are there
    "raw.keys",  # rows whose id was there before are found
    "raw.ready",
    "raw.committed",  # no pointer names it yet
    "raw.pointed",  # `_latest.json`
    "raw.based",  # `_base.json`
    "delta.removed",  # the file of removed rows is in the lake
    "delta.ready",
    "delta.committed",
    "slice.written",
    "slice.published",
    "slice.committed",
    "strides.slice",
    "strides.cut",  # all slices are there
    "strides.ready",
    "strides.committed",
    "driver.retired",
    "driver.adopted",
    "driver.job_file",
    "driver.submitted",  # the backend has the job, the driver does not know
    "driver.polled",
    "driver.seen",  # a manifest was found, nothing is recorded
    "record.kept",
    "record.set",
    "record.materialized",  # without its checks
    "record.checked",
    "index.batch",
    "index.created",  # without its index
    "index.measured",  # nobody reads it yet
    "index.published",
)

_name = ""
_left = 0
_signal = signal.SIGKILL
_lock = threading.Lock()


def arm(text: str) -> None:
    """`NAME[:COUNT[:kill|stop]]`; empty disarms. Raises ValueError for what is not of that form."""
    global _name, _left, _signal
    name, _, rest = text.partition(":")
    count, _, action = rest.partition(":")
    if name and name not in WORKER + PLATFORM:
        raise ValueError(f"{VARIABLE}={text!r}: no failpoint is called {name!r}")
    if action not in ("", "kill", "stop"):
        raise ValueError(f"{VARIABLE}={text!r}: {action!r} is neither kill nor stop")
    _name, _left = name, int(count or 1)
    _signal = signal.SIGSTOP if action == "stop" else signal.SIGKILL


def reach(name: str) -> None:
    """Marks a place."""
    if name == _name:
        _fall()


def _fall() -> None:
    global _left
    with _lock:
        _left -= 1
        if _left == 0:
            os.kill(os.getpid(), _signal)
            if _signal == signal.SIGKILL:
                signal.pause()  # the signal may be a moment on its way to this thread


arm(os.environ.get(VARIABLE, ""))
