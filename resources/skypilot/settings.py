"""What a deployment can say about SkyPilot: EMBED_SKY_* variables, and the fields of the Dagster resource."""

import json
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from embed_worker.lake.secrets import check_address
from resources.skypilot.places import ANYWHERE, cloud_of
from resources.skypilot.task import Overrides

NAME_PREFIX = r"^[a-z][a-z0-9]*(-[a-z0-9]+)*-$"


class SkyPilotFields(BaseModel):
    """One definition for both."""

    model_config = ConfigDict(hide_input_in_errors=True)

    api_server: str | None = Field(
        default=None,
        description="Endpoint of the SkyPilot API server, without a password; default: what `sky api login` remembers.",
    )
    task_file: str | None = Field(default=None, description="SkyPilot task; default: the shipped embed_partition.yaml.")
    infra: str | None = Field(
        default=None,
        description="Where jobs may run: `aws`, `gcp/us-central1`, `slurm/name`, `*`; default: the lake's cloud.",
    )
    lake: str = Field(default="", description="URL of the lake: its cloud is where jobs run, unless `infra` says more.")
    accelerators: str | None = Field(
        default=None, description="GPUs instead of the task file's, best first: `L4:1, A100:1`; `none` for CPU nodes."
    )
    use_spot: bool | None = Field(default=None, description="Only spot machines, or only on-demand ones.")
    cpus: str | None = Field(default=None, description="vCPUs of a machine: `8`, `8+`.")
    memory: str | None = Field(default=None, description="GiB of memory of a machine: `32`, `32+`.")
    image_id: str | None = Field(default=None, description="Machine or container image with the worker baked in.")
    disk_size: int | None = Field(default=None, ge=1, description="GB of disk.")
    max_hourly_cost: float | None = Field(
        default=None, gt=0, description="Dollars an hour that a machine may cost; default: the task file's."
    )
    max_job_hours: float | None = Field(
        default=24.0, gt=0, description="A job that has run for so long is cancelled and reported."
    )
    pool: str | None = Field(default=None, description="Name of the warm pool that jobs go to.")
    max_concurrent_jobs: int = Field(default=100, ge=1, description="Jobs of one Dagster run open at once.")
    launch_parallelism: int = Field(default=4, ge=1, le=32, description="Launch requests in flight at once.")
    poll_seconds: float = Field(default=15.0, gt=0, description="Seconds between two looks at the queue.")
    name_prefix: str = Field(default="embed-", pattern=NAME_PREFIX, description="Begins every managed job's name.")
    start_deadline_seconds: float | None = Field(
        default=3600.0, gt=0, description="A job that has not started to run by then is reported."
    )
    cancel_when_late: bool = Field(default=False, description="Cancel a job that missed the start deadline.")
    max_starts: int = Field(
        default=10,
        ge=1,
        description="Failed starts of a managed job, in a row, that commit nothing before it gives up.",
    )
    envs: dict[str, str] = Field(default={}, description="More environment variables of the job; no secrets here.")
    secrets: str = Field(
        default="", description="Names, separated by commas, of variables of this process handed over as secrets."
    )
    call_timeout_seconds: float = Field(default=120.0, gt=0, description="Deadline of a call to the API server.")

    @field_validator("api_server")
    @classmethod
    def _no_secret(cls, value: str | None) -> str | None:
        """The Dagster UI shows it."""
        try:
            return value and check_address(value)
        except ValueError:
            raise ValueError(
                "a URL with a secret in it; use a token (SKYPILOT_SERVICE_ACCOUNT_TOKEN), or leave this empty and give "
                "SkyPilot the URL itself (SKYPILOT_API_SERVER_ENDPOINT)"
            ) from None

    @property
    def beside(self) -> str | None:
        """The lake's cloud, where the deployment says nothing else."""
        return None if self.infra else cloud_of(self.lake)

    @property
    def priced_at(self) -> str | None:
        """Where machines are priced."""
        return self.beside if self.infra in (None, ANYWHERE) else self.infra

    def overrides(self) -> Overrides:
        return Overrides(
            infra=self.infra,
            beside=self.beside,
            accelerators=self.accelerators,
            use_spot=self.use_spot,
            cpus=self.cpus,
            memory=self.memory,
            image_id=self.image_id,
            disk_size=self.disk_size,
            max_hourly_cost=self.max_hourly_cost,
            envs={"EMBED_MAX_STARTS": str(self.max_starts), **self.envs},
        )

    def secret_names(self) -> list[str]:
        return [name for part in self.secrets.split(",") if (name := part.strip())]


class SkyPilotSettings(SkyPilotFields, BaseSettings):
    """EMBED_SKY_* variables; a dictionary is JSON, an empty value is none at all."""

    model_config = SettingsConfigDict(
        env_prefix="EMBED_SKY_", extra="ignore", env_ignore_empty=True, hide_input_in_errors=True
    )

    envs: Annotated[dict[str, str], NoDecode] = {}
    lake: str = Field(default="", validation_alias="EMBED_LAKE")

    @field_validator("envs", mode="before")
    @classmethod
    def _from_json(cls, value: Any) -> Any:
        try:
            return json.loads(value) if isinstance(value, str) else value
        except ValueError:
            raise ValueError('write it as JSON, such as {"NAME": "value"}') from None
