"""Exit codes of `python -m embed_worker`: the one word that a backend hears of an attempt."""

from enum import IntEnum


class ExitCode(IntEnum):
    """What the caller should do about a job that ended."""

    DONE = 0
    """Every job is committed."""
    BAD_JOB = 65
    """Another attempt would fail alike: wrong spec, wrong weights, damaged input."""
    UNAVAILABLE = 69
    """The lake refuses this machine, or could not be reached before the start was noted in it. Nothing counts such
    starts: whoever launched the job may try again, SkyPilot must not recover it."""
    RETRY = 75
    """Preempted, or a fault that another attempt may not meet. Committed checkpoints are kept."""
