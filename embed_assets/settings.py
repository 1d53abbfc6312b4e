"""Deployment settings: environment variables, each with a default that suits the demo."""

import glob
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from embed_assets.spec import EmbeddingPipeline, load_pipelines
from embed_worker.lake.secrets import check_address
from resources.lake import Lake

SHIPPED = Path(__file__).parent
"""The wheel carries the example pipelines in here, for those without a clone."""


class Settings(BaseSettings):
    """Where this deployment keeps its lake and how it computes. Pipelines say nothing of that."""

    model_config = SettingsConfigDict(
        env_prefix="EMBED_", env_ignore_empty=True, extra="ignore", hide_input_in_errors=True
    )

    pipelines: str = "pipelines/demo.yaml"
    """Pipeline files, separated by commas; globs allowed."""
    lake: str = ".demo/lake"
    """Root of the lake: a folder, or s3://, gs://, az://; never with a secret in it."""
    compute: Literal["local", "skypilot"] = "local"
    """Where partitions are embedded."""
    worker_python: str = ".venv-worker/bin/python"
    """Python of the environment that has vLLM and embed_worker; only for `local`."""
    local_workers: int = Field(default=1, ge=1)
    """Worker processes on this machine; each loads the model."""
    local_start_seconds: float = Field(default=300.0, gt=0)
    """A worker on this machine that has not begun to work by then is killed and tried again."""
    local_load_seconds: float = Field(default=3600.0, gt=0)
    """So is one that has not fetched and loaded its model by then."""
    max_attempts: int = Field(default=3, ge=1)
    """Times a partition is tried in one run before it fails."""
    partitions_per_run: int = Field(default=100, ge=1)
    """Partitions that one Dagster run of a backfill drives. A pipeline of no more can be launched by range."""

    monitor_url: str | None = None
    """Where the monitor page is served; materializations link to it."""

    _no_secret = field_validator("lake")(check_address)

    def pipeline_files(self) -> list[Path]:
        """The files of `pipelines`, in order. Raises ValueError where a pattern matches nothing."""
        files: list[Path] = []
        for pattern in filter(None, (part.strip() for part in self.pipelines.split(","))):
            found = sorted(glob.glob(pattern, recursive=True))
            if not found and (SHIPPED / pattern).is_file():
                found = [str(SHIPPED / pattern)]
            if not found:
                raise ValueError(f"EMBED_PIPELINES: no file matches {pattern!r} (from {Path.cwd()})")
            files.extend(Path(name) for name in found)
        if not files:
            raise ValueError("EMBED_PIPELINES is empty; name at least one pipeline file")
        return list(dict.fromkeys(files))


def deployment() -> tuple[Settings, list[EmbeddingPipeline], Lake]:
    """Settings, pipelines and lake, as Dagster sees them."""
    settings = Settings()
    return settings, load_pipelines(settings.pipeline_files()), Lake(root=settings.lake)
