"""What the driver reports: each partition once, and notes for the run's log."""

from dataclasses import dataclass

from embed_worker.manifests import ShardManifest
from resources.compute import JobStatus


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
