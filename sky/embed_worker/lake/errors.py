"""What can go wrong with a job, and the exit code that tells the caller what to do about it."""

from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of `python -m embed_worker`."""

    DONE = 0
    """Every job is committed."""
    BAD_JOB = 65
    """Another attempt would fail alike: wrong spec, wrong weights, damaged input."""
    UNAVAILABLE = 69
    """The lake refuses this machine, or could not be reached before the start was noted in it. Nothing counts such
    starts: whoever launched the job may try again, SkyPilot must not recover it."""
    RETRY = 75
    """Preempted, or a fault that another attempt may not meet. Committed checkpoints are kept."""


class WorkerError(Exception):
    """Base of the worker's own errors."""

    exit_code = ExitCode.RETRY


class BadJob(WorkerError):
    """The job cannot succeed as it is written; the message names the file or key and the cure."""

    exit_code = ExitCode.BAD_JOB


class Preempted(WorkerError):
    """The worker was told to stop; what is committed stays committed."""


class SickEngine(WorkerError):
    """The engine no longer gives the vectors of its start. Another machine is not bad."""


class StoreUnavailable(WorkerError):
    """The lake cannot be written or read now: disk full, no permission, network down."""


class NoPermission(StoreUnavailable):
    """The lake refuses this machine; another one has the same identity."""

    exit_code = ExitCode.UNAVAILABLE


class NotBegun(StoreUnavailable):
    """The attempt failed before its start was noted in the lake."""

    exit_code = ExitCode.UNAVAILABLE


class StoreAway(StoreUnavailable):
    """The lake does not answer; it may in a moment."""


class DamagedData(WorkerError):
    """A file of an unfinished partition is not the one its commit record names."""
