"""A job that starts late, or runs for too long: told, or to be cancelled."""

from dataclasses import dataclass

from resources.skypilot.client import Record
from resources.skypilot.job import ManagedJob
from resources.skypilot.settings import SkyPilotFields

LATE = "the job has not started within EMBED_SKY_START_DEADLINE_SECONDS"
TOO_LONG = "the job has run for longer than EMBED_SKY_MAX_JOB_HOURS"


@dataclass(frozen=True)
class Overdue:
    """`cancel`: it is to be stopped, and `kind` is its end's. Otherwise it goes on."""

    text: str
    kind: str = ""

    @property
    def cancel(self) -> bool:
        return bool(self.kind)


def overdue(job: ManagedJob, record: Record, now: float, settings: SkyPilotFields) -> Overdue | None:
    """What is to be said of a live job that has passed one of the deployment's limits."""
    if job.status.state.final:
        return None
    if (hours := job.hours(record, now)) is None:
        return _late(job, now, settings)
    limit = settings.max_job_hours
    if limit is None or hours <= limit:
        return None
    return Overdue(
        f"managed job {job.job_id} has run for {hours:.1f} h and was cancelled (EMBED_SKY_MAX_JOB_HOURS={limit:g}). "
        "What it has committed is kept. Its log says whether it hung or was slow: materialize the partition again to "
        "go on, or cut into more strides",
        TOO_LONG,
    )


def _late(job: ManagedJob, now: float, settings: SkyPilotFields) -> Overdue | None:
    limit = settings.start_deadline_seconds
    if limit is None or job.late or now - job.asked_at <= limit:
        return None
    text = f"managed job {job.job_id} has not started to run within {limit:g} s: {job.status.detail or job.seen}"
    if not settings.cancel_when_late:
        return Overdue(f"{text}. It goes on waiting (EMBED_SKY_CANCEL_WHEN_LATE=true would cancel it)")
    return Overdue(f"{text}. It was cancelled, as EMBED_SKY_CANCEL_WHEN_LATE says", LATE)
