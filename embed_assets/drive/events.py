"""What the driver is given, and what it reports: each partition once, and notes for the run's log."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from embed_worker.lake.job import EmbedJob
from embed_worker.lake.manifests import ShardManifest
from embed_worker.lake.spec import digest_of
from resources.compute import JobHandle, JobStatus


@dataclass(frozen=True)
class Plan:
    """One partition to be made."""

    key: str
    job: EmbedJob
    prefix: str = ""

    @property
    def name(self) -> str:
        """Job name: the same shard has the same name in every run, so a live job is found again.

        How it is made (engine settings, checkpoint size) does not count: with an edited pipeline, a run that is
        executed again would launch every job a second time beside the live one.
        """
        readable = re.sub(r"[^a-z0-9]+", "-", f"{self.job.pipeline}-{self.key}".lower())
        shard = digest_of([self.job.lake, self.job.output, self.job.input.digest], length=10)
        return f"{self.prefix}{readable}-{shard}"


class Watch(Protocol):
    """Follows what jobs cost, and may stop the launching of further ones."""

    def refuse(self, waiting: Sequence[Plan], running: Sequence[tuple[Plan, JobStatus]]) -> tuple[str, str] | None:
        """Why nothing of what waits is to be launched any more: in a few words, and with all figures."""

    def running(self, jobs: Sequence[tuple[Plan, JobStatus]]) -> None:
        """After each poll: the jobs that are open, with the last that is known of each."""

    def ended(self, plan: Plan, handle: JobHandle, status: JobStatus, *, committed: bool) -> None:
        """A job is over; `status` is the last that is known of it."""


@dataclass(frozen=True)
class Committed:
    """The partition's manifest is there."""

    key: str
    manifest: ShardManifest
    status: JobStatus | None
    """The job's last known status; None where the partition was committed before this run."""
    attempts: int
    """Jobs that this run started or attached to for the partition."""
    elapsed: float = 0.0
    """Seconds from submit to commit, as this run saw them."""

    @property
    def adopted(self) -> bool:
        return self.status is None


@dataclass(frozen=True)
class Failed:
    """The partition will not be made by this run."""

    key: str
    error: str
    log: str
    attempts: int


@dataclass(frozen=True)
class Note:
    """Something a person may want to read in the run's log."""

    text: str
    warning: bool = False


Outcome = Committed | Failed | Note
