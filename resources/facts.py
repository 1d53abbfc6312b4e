"""What a backend knows of a job beside its state: for the materialization, the budget and the costs in the lake."""

from typing import Any, Self

from pydantic import BaseModel, ConfigDict, model_validator


class JobFacts(BaseModel):
    """A None has its reason in `unknown`; without one, it is no matter of this backend."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: int | str | None = None
    name: str | None = None
    dashboard: str | None = None
    infra: str | None = None
    cloud: str | None = None
    region: str | None = None
    zone: str | None = None
    pool: str | None = None
    accelerators: str | None = None
    """`L4:1`; `none` on a machine without."""
    spot: bool | None = None
    machine: str | None = None
    """Instance type."""
    recoveries: int | None = None
    attached: bool | None = None
    """The run found the job there."""
    seconds_queued: float | None = None
    seconds_launch: float | None = None
    seconds_run: float | None = None
    dollars_per_hour: float | None = None
    """Of the machine that the job had last."""
    cost_dollars: float | None = None
    on_demand_dollars: float | None = None
    """What the same machines and seconds would have cost without spot."""
    worker_pid: int | None = None
    unknown: dict[str, str] = {}
    """Field → why it is not known."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for field in self.unknown:
            if field not in type(self).model_fields or getattr(self, field) is not None:
                raise ValueError(f"{field} is no field, or known after all")
        return self

    @property
    def priced(self) -> bool:
        """Whether the backend has prices at all: jobs on this machine have none."""
        return self.cost_dollars is not None or "cost_dollars" in self.unknown

    def told(self) -> dict[str, Any]:
        """For people: what is not known says so, with its reason; it is never a 0 or an empty field."""
        values = {field: getattr(self, field) for field in type(self).model_fields if field != "unknown"}
        found = {field: value for field, value in values.items() if value is not None}
        return found | {field: f"unknown: {reason}" for field, reason in self.unknown.items()}
