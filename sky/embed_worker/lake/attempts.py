"""Who worked on a partition, and on what machine: notes of the attempts, which the manifest lists."""

import re
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationError

from embed_worker.lake.lenient import Count, Lenient, Moment, Number, Price, Text

PLAIN_NAME = r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,199}$"
LANE = re.compile(r"(\d{1,4}) of (\d{1,4})")
LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


class _Note(Lenient):
    def note(self) -> dict[str, Any]:
        """For JSON: without what is not known."""
        return self.model_dump(mode="json", exclude_none=True)


class Attempt(_Note):
    """One engine's work on a partition; what is not known is None."""

    attempt: str = Field(pattern=PLAIN_NAME)
    started_at: Moment | None = None
    lane: Text | None = None
    """`2 of 4`: which of a node's engines; None where there is one."""
    host: Text | None = None
    pid: Count | None = None
    skypilot_task_id: Text | None = None
    skypilot_job_id: Text | None = None
    cloud: Text | None = None
    region: Text | None = None
    zone: Text | None = None
    spot: bool | None = Field(default=None, strict=True)
    price_per_hour: Price | None = None

    @property
    def begins_a_start(self) -> bool:
        """Of a node's several engines only the first counts: they start together."""
        lane = LANE.fullmatch(self.lane or "")
        return lane is None or int(lane[1]) == 1


class Hardware(_Note):
    """A node, as its worker describes it."""

    cpu: Text | None = None
    cores: Count | None = None
    memory_gb: Number | None = None
    gpus: list[Text] = Field(default_factory=list)
    """Of all engines that share the partition."""
    engines: int = Field(default=1, strict=True, ge=1, le=1024)

    @property
    def machine(self) -> str:
        """`NVIDIA L4`, the same with its count before it, or `CPU, 8 cores`."""
        if self.gpus:
            name = self.gpus[0]
            return name if len(self.gpus) == 1 else f"{len(self.gpus)}× {name}"
        return f"CPU, {self.cores} cores" if self.cores else "CPU"


def attempt_of(note: object) -> Attempt | None:
    """None where a note is damaged: it commits nothing."""
    try:
        return Attempt.model_validate(note)
    except ValidationError:
        return None


def readable(notes: object) -> list[Attempt]:
    """Those of a list that are attempts."""
    found = map(attempt_of, notes) if isinstance(notes, list) else ()
    return [attempt for attempt in found if attempt is not None]


Attempts = Annotated[list[Attempt], BeforeValidator(readable)]


def in_order(attempts: list[Attempt]) -> list[Attempt]:
    """As they began, by the clocks of their nodes."""
    return sorted(attempts, key=lambda attempt: attempt.started_at or LONG_AGO)
