"""Exit codes of `python -m embed_worker`: the one word that a backend hears of an attempt."""

from enum import IntEnum


class ExitCode(IntEnum):
    """What the caller should do about a job that ended. SkyPilot recovers PREEMPTED alone."""

    DONE = 0
    """Every job is committed."""
    BAD_JOB = 65
    """Another attempt would fail alike: wrong spec, wrong weights, damaged input."""
    UNAVAILABLE = 69
    """The lake or the model's source refuses this machine, or was away for longer than the worker waits. A new
    machine would find it no better at once; a later attempt may."""
    MACHINE = 70
    """This machine cannot do it: its driver, GPU, memory or disk. Another one may."""
    AGAIN = 74
    """Something went wrong that nobody foresaw, after the engine had proved itself. Worth one more start in place."""
    PREEMPTED = 75
    """Told to stop. Committed checkpoints are kept."""


KINDS = {
    ExitCode.BAD_JOB: "the job is refused as it is written",
    ExitCode.UNAVAILABLE: "the lake or the model's source refuses the node, or is away",
    ExitCode.MACHINE: "the machine's driver, GPU, memory or disk is at fault",
    ExitCode.AGAIN: "the worker failed in mid-job",
}
"""In words, of ends that more than one job may share."""
