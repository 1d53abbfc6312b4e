"""What the driver yields: the end of each job, once. And whom it asks and tells meanwhile."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from embed_assets.checks.proof import Proof
from embed_worker.lake.job import EmbedJob
from embed_worker.lake.manifests import ShardManifest
from resources.compute import JobHandle, JobStatus


@dataclass(frozen=True)
class Committed:
    """The shard's manifest is there."""

    job: EmbedJob
    manifest: ShardManifest
    proof: Proof
    status: JobStatus | None
    """The backend's last word of the job; None where the shard was committed before this run."""
    attempts: int
    """Jobs that this run started or attached to for the shard."""
    elapsed: float = 0.0
    """Seconds from submit to commit, as this run saw them."""

    @property
    def adopted(self) -> bool:
        return self.status is None


@dataclass(frozen=True)
class Failed:
    """The shard will not be made by this run."""

    job: EmbedJob
    error: str
    log: str
    attempts: int


Outcome = Committed | Failed


NOTICES_TOLD = 5
"""Of those that come with one poll."""


def first_of(notices: Sequence[str]) -> str:
    more = f"\n… and {len(notices) - NOTICES_TOLD} more" if len(notices) > NOTICES_TOLD else ""
    return "\n".join(notices[:NOTICES_TOLD]) + more


class Tell(Protocol):
    """Takes what a person may want to read in the run's log."""

    def __call__(self, text: str, *, warning: bool = False) -> None: ...


@dataclass(frozen=True)
class Refusal:
    """Why a job is not to be launched now."""

    short: str
    figures: str


class Budget(Protocol):
    """Follows what jobs cost, and says which may be launched."""

    def reserve(self, jobs: Sequence[EmbedJob]) -> tuple[list[EmbedJob], Refusal | None]:
        """Those of the jobs that may be launched, and why not all may. May raise StoreUnavailable.

        What they are expected to cost is put aside for them: until they are over, or are not to be launched after all.
        """

    def launched(self, jobs: Sequence[EmbedJob]) -> None:
        """There are live jobs of these: this run has launched them, or found them."""

    def withdraw(self, jobs: Sequence[EmbedJob]) -> None:
        """This run does not launch these."""

    def running(self, jobs: Sequence[tuple[EmbedJob, JobStatus]]) -> None:
        """After each poll: the jobs that are open, with the last that is known of each."""

    def ended(self, job: EmbedJob, handle: JobHandle, status: JobStatus, *, committed: bool) -> None:
        """A job is over; `status` is the last that is known of it."""


class Unlimited:
    """No budget."""

    def reserve(self, jobs: Sequence[EmbedJob]) -> tuple[list[EmbedJob], Refusal | None]:
        return list(jobs), None

    def launched(self, jobs: Sequence[EmbedJob]) -> None: ...

    def withdraw(self, jobs: Sequence[EmbedJob]) -> None: ...

    def running(self, jobs: Sequence[tuple[EmbedJob, JobStatus]]) -> None: ...

    def ended(self, job: EmbedJob, handle: JobHandle, status: JobStatus, *, committed: bool) -> None: ...
