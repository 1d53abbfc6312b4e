"""The compute protocol: what the driver asks of a backend, whichever it is."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from embed_worker.lake.job import EmbedJob
from resources.facts import JobFacts


class JobState(StrEnum):
    """Where a job is. The last four are final."""

    QUEUED = "queued"
    STARTING = "starting"
    RUNNING = "running"
    RECOVERING = "recovering"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    """Ended badly in a way that another attempt may not."""
    REFUSED = "refused"
    """Ended badly in a way that any attempt would: bad spec, bad input, nothing to run it on."""
    CANCELLED = "cancelled"

    @property
    def final(self) -> bool:
        return self in (JobState.SUCCEEDED, JobState.FAILED, JobState.REFUSED, JobState.CANCELLED)


@dataclass(frozen=True)
class JobHandle:
    """One job of a backend. `name` is deterministic, `id` is the backend's own."""

    name: str
    id: str


@dataclass
class JobStatus:
    """What a backend knows of a job."""

    state: JobState
    detail: str = ""
    """For people: why it failed and what to do."""
    facts: JobFacts = field(default_factory=JobFacts)
    kind: str = ""
    """Of a bad end: in words that other jobs' ends of the same cause share; empty where the backend cannot tell."""
    notice: str = ""
    """Something that happened while the job goes on; each is told once."""


class ComputeUnavailable(Exception):
    """The backend cannot be asked just now. Nothing is known to be wrong with any job."""


class BackendBroken(RuntimeError):
    """The backend cannot run anything until a person mends it; the message says how."""


class Compute(Protocol):
    """Runs embed jobs. Calls may raise ComputeUnavailable; the driver waits and asks again."""

    poll_seconds: float
    """How often the driver polls."""
    slots: int
    """Jobs that may be open at once."""
    outlives_driver: bool
    """True where jobs go on when the Dagster process dies, so that a re-executed run can attach to them."""

    def advice(self, jobs: int) -> Sequence[str]:
        """What a person should know before so many jobs are launched, a warning each."""

    def submit(self, name: str, job: EmbedJob, url: str) -> JobHandle:
        """Starts a job, or finds the live one of that name, and returns at once. `url` is its job file."""

    def find(self, names: Sequence[str]) -> dict[str, JobHandle]:
        """The live jobs among some names. Raises ComputeUnavailable as long as that is not to be known."""

    def poll(self, handles: Sequence[JobHandle]) -> dict[JobHandle, JobStatus]:
        """The status of all handles in one call, whatever their number."""

    def cancel(self, handles: Sequence[JobHandle]) -> None:
        """Stops jobs. Those that have ended already are no fault."""

    def logs(self, handle: JobHandle, lines: int = 100) -> str:
        """The last lines of a job's log; an explanation where there are none."""


def tail_of(text: str, lines: int) -> str:
    """The last lines of a log."""
    return "\n".join(text.splitlines()[-lines:])
