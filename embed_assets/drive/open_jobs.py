"""Jobs of a run that have not ended, and what happens to them meanwhile."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from embed_assets.drive.events import first_of
from embed_worker.lake.job import EmbedJob
from resources.compute import JobHandle, JobState, JobStatus


@dataclass
class OpenJob:
    """A job that the backend has."""

    job: EmbedJob
    handle: JobHandle
    since: float
    status: JobStatus = field(default_factory=lambda: JobStatus(JobState.QUEUED))
    ended_uncommitted: bool = False
    told: str = ""


def take_statuses(jobs: Iterable[OpenJob], statuses: Mapping[JobHandle, JobStatus]) -> str:
    """Notes what a poll says of the jobs; what of it a person may want to read."""
    notices = []
    for entry in jobs:
        entry.status = statuses.get(entry.handle, entry.status)
        if entry.status.notice and entry.status.notice != entry.told:
            entry.told = entry.status.notice
            notices.append(f"{entry.job.shard.key}: {entry.told}")
    return first_of(notices)
