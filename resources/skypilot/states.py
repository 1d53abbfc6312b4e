"""What each status of a managed job means for its partition, and what a person can do about it."""

import re
from collections.abc import Mapping
from typing import Any

from embed_worker.exits import KINDS, ExitCode
from resources.compute import JobState

STATES: Mapping[str, JobState] = {
    "PENDING": JobState.QUEUED,
    "SUBMITTED": JobState.QUEUED,
    "STARTING": JobState.STARTING,
    "RUNNING": JobState.RUNNING,
    "WINDING_DOWN": JobState.RUNNING,
    "RECOVERING": JobState.RECOVERING,
    "CANCELLING": JobState.RUNNING,  # not over yet: the worker may still commit what it has in hand
    "SUCCEEDED": JobState.SUCCEEDED,
    "CANCELLED": JobState.CANCELLED,
    "FAILED": JobState.FAILED,
    "FAILED_SETUP": JobState.FAILED,  # a package index that is away for minutes looks like a node that is not fit
    "FAILED_PRECHECKS": JobState.REFUSED,
    "FAILED_NO_RESOURCE": JobState.REFUSED,
    "FAILED_CONTROLLER": JobState.FAILED,
}

ADVICE: Mapping[str, str] = {
    "CANCELLED": "Someone cancelled it. Materialize the partition again; what it has committed is kept.",
    "FAILED": "The worker ended badly; its log is below. What it has committed is kept for the next attempt.",
    "FAILED_SETUP": "The node could not be prepared: its log is below. Where every attempt ends so, correct "
    "sky/setup_node.sh or the pins beside it, or name a ready environment with EMBED_WORKER_PYTHON in EMBED_SKY_ENVS.",
    "FAILED_PRECHECKS": "SkyPilot rejects the request before launching: a cloud that is not enabled, an unknown "
    "region or accelerator, or spot where there is none (Slurm, Kubernetes: EMBED_SKY_USE_SPOT=false). Run "
    "`sky check`, then correct the EMBED_SKY_* overrides or the task file.",
    "FAILED_NO_RESOURCE": "Nothing that fits could be had anywhere. Allow more accelerators, regions or clouds "
    "(EMBED_SKY_ACCELERATORS, EMBED_SKY_INFRA), ask for a larger quota, or allow on-demand machines.",
    "FAILED_CONTROLLER": "SkyPilot's controller failed, not the worker. A machine MAY STILL RUN AND BILL: look with "
    "`sky status --all-users` and in the cloud's console, and take it down.",
}
"""For every status that can end a partition without its shard."""

BY_EXIT_CODE: Mapping[int, str] = {
    ExitCode.BAD_JOB: "The worker refuses the job: another attempt would fail alike. Its log below names the cause.",
    ExitCode.UNAVAILABLE: "The lake or the model's source refuses the node, or was away for longer than the worker "
    "waits (EMBED_PATIENCE_SECONDS): its log below says which. Give the nodes' role read and write access to "
    "EMBED_LAKE; what is committed is kept.",
    ExitCode.MACHINE: "This machine's driver, GPU, memory or disk is at fault; its log below says which. Another "
    "attempt gets another machine. Where all end so, choose other machines (EMBED_SKY_ACCELERATORS, EMBED_SKY_INFRA, "
    "EMBED_SKY_IMAGE_ID).",
    ExitCode.AGAIN: "The worker failed twice on this machine in mid-job; its log is below. What is committed is kept.",
}
"""Of a job that ended as FAILED."""

CONTROLLER_LOG = frozenset({"FAILED_PRECHECKS", "FAILED_NO_RESOURCE", "FAILED_CONTROLLER", "PENDING", "STARTING"})
"""Where the job itself has written nothing yet: the controller's log says why."""

REJECTED = "SkyPilot rejects the launch"
"""A kind of end that is no status of SkyPilot's."""

EXIT_CODE = re.compile(r"exit(?:ed with)?(?: exit)? codes?\D{0,10}?(\d{1,3})\b", re.IGNORECASE)


def status_name(status: Any) -> str:
    """`RUNNING`, from SkyPilot's enum or from a plain string."""
    return str(getattr(status, "value", status))


def is_live(name: str) -> bool:
    """Whether a job with this status may be attached to: it neither has ended nor is being cancelled."""
    state = STATES.get(name)
    return name != "CANCELLING" and (state is None or not state.final)


def exit_code(failure_reason: str | None) -> int | None:
    """The worker's exit code, which SkyPilot tells only in words."""
    match = EXIT_CODE.search(failure_reason or "")
    return int(match[1]) if match else None


def job_state(name: str, failure_reason: str | None) -> JobState:
    """A status of a newer SkyPilot counts as running: the manifest decides."""
    if name == "FAILED" and exit_code(failure_reason) == ExitCode.BAD_JOB:
        return JobState.REFUSED
    return STATES.get(name, JobState.RUNNING)


def kind_of(name: str, failure_reason: str | None) -> str:
    """Of a bad end: what the jobs that end of the same cause share. Empty where it says nothing of a cause."""
    if name not in ADVICE or name == "CANCELLED":
        return ""
    code = exit_code(failure_reason) if name == "FAILED" else None
    return f"{KINDS[ExitCode(code)]} (exit code {code})" if code in set(KINDS) else name


def explain(name: str, job_id: int, failure_reason: str | None) -> str:
    """What happened, what SkyPilot says, what to do, where to look."""
    if name not in ADVICE:
        return ""
    advice = ADVICE[name]
    if name == "FAILED":
        advice = BY_EXIT_CODE.get(exit_code(failure_reason) or 0, advice)
    reason = f" ({' '.join(failure_reason.split())})" if failure_reason else ""
    return f"managed job {job_id} ended as {name}{reason}. {advice} Full log: {logs_command(name, job_id)}"


def logs_command(name: str, job_id: int) -> str:
    return f"`sky jobs logs {'--controller ' if name in CONTROLLER_LOG else ''}{job_id}`"
