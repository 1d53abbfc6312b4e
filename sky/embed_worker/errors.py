"""What ends an attempt, and with which exit code.

    WorkerError
    ├── BadJob        it cannot succeed as it is written: exit 65
    ├── NotBegun      its start could not be noted in the lake: exit 69
    ├── Preempted     told to stop: exit 75
    ├── SickEngine    this machine has gone bad: exit 75
    └── NeedsEngine   it was to be done without an engine, and cannot: exit 75

The lake's own errors (`embed_worker.lake.errors`) end an attempt too; they know no exit codes.
"""

from embed_worker.exits import ExitCode
from embed_worker.lake.errors import BadJobFile, NoPermission, StoreUnavailable


class WorkerError(Exception):
    """Base of the worker's own errors. Another attempt may do better."""


class BadJob(WorkerError):
    """The job cannot succeed as it is written; the message names the file or key and the cure."""


class NotBegun(WorkerError):
    """The attempt failed before its start was noted in the lake."""


class Preempted(WorkerError):
    """The worker was told to stop; what is committed stays committed."""


class SickEngine(WorkerError):
    """The engine no longer gives the vectors of its start. Another machine is not bad."""


class NeedsEngine(WorkerError):
    """A text is not known, where nothing but known texts can be dealt with."""


def exit_code_of(error: Exception) -> ExitCode:
    """Of an attempt that ended with this error. Another machine has the same identity, so a refusal is told at once."""
    match error:
        case BadJob() | BadJobFile():
            return ExitCode.BAD_JOB
        case NotBegun() | NoPermission():
            return ExitCode.UNAVAILABLE
        case _:
            return ExitCode.RETRY


def lake_away(error: Exception) -> bool:
    """Whether the lake ended the attempt: it says nothing of the job then, and a later attempt may find it there."""
    return isinstance(error, StoreUnavailable) or isinstance(error.__cause__, StoreUnavailable)
