"""What ends an attempt, and with which exit code.

    WorkerError           another start may do better: exit 74
    ├── BadJob            it cannot succeed as it is written: exit 65
    ├── NotBegun          its start could not be noted in the lake: exit 69
    ├── ModelAway         the hub or the model's bucket does not answer: exit 69
    ├── BadMachine        this machine cannot do it: exit 70
    │   └── SickEngine    it has gone bad in mid-job
    ├── Preempted         told to stop: exit 75
    └── NeedsEngine       it was to be done without an engine, and cannot: exit 74

The lake's own errors (`embed_worker.lake.errors`) end an attempt too; they know no exit codes.
"""

from embed_worker.exits import ExitCode
from embed_worker.lake.errors import BadJobFile, NoSpace, StoreUnavailable


class WorkerError(Exception):
    """Base of the worker's own errors. Another attempt may do better."""


class BadJob(WorkerError):
    """The job cannot succeed as it is written; the message names the file or key and the cure."""


class NotBegun(WorkerError):
    """The attempt failed before its start was noted in the lake."""


class ModelAway(WorkerError):
    """Where the model lies does not answer; it may in a moment."""


class BadMachine(WorkerError):
    """This machine's driver, GPU, memory or disk is at fault. Another one may do."""


class SickEngine(BadMachine):
    """The engine no longer gives the vectors of its start."""


class Preempted(WorkerError):
    """The worker was told to stop; what is committed stays committed."""


class NeedsEngine(WorkerError):
    """A text is not known, where nothing but known texts can be dealt with."""


def exit_code_of(error: Exception) -> ExitCode:
    """Of an attempt that ended with this error.

    Another machine has the same identity and the same lake, so what the lake does is told at once.
    """
    match error:
        case BadJob() | BadJobFile():
            return ExitCode.BAD_JOB
        case BadMachine() | NoSpace():
            return ExitCode.MACHINE
        case NotBegun() | ModelAway() | StoreUnavailable():
            return ExitCode.UNAVAILABLE
        case Preempted():
            return ExitCode.PREEMPTED
        case _:
            return ExitCode.AGAIN


def lake_away(error: Exception) -> bool:
    """Whether the lake ended the attempt: it says nothing of the job then, and a later attempt may find it there."""
    return isinstance(error, StoreUnavailable) or isinstance(error.__cause__, StoreUnavailable)
