"""A warm pool of machines that keep the worker's environment."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from resources.compute import BackendBroken
from resources.folders import run_folder
from resources.skypilot.client import SkyClient
from resources.skypilot.settings import SkyPilotFields
from resources.skypilot.task import Overrides, load_task, stage_worker, with_overrides, with_secrets

POOL_FILE = "pool.yaml"
DEFAULT_NAME = "embed"


@dataclass(frozen=True)
class PoolWorker:
    """One machine of a pool."""

    number: int
    status: str
    infra: str
    jobs: tuple[int, ...]


@dataclass(frozen=True)
class PoolStatus:
    name: str
    status: str
    workers: tuple[PoolWorker, ...]

    @property
    def ready(self) -> int:
        return sum(worker.status == "READY" for worker in self.workers)


class Pool:
    """The pool that the settings name."""

    def __init__(self, settings: SkyPilotFields, client: SkyClient | None = None) -> None:
        self._settings = settings
        self._client = client or SkyClient(settings.api_server, settings.call_timeout_seconds)
        self.name = settings.pool or DEFAULT_NAME

    def config(self, file: str | None, workers: int | None) -> dict[str, Any]:
        """The pool's file with the deployment's overrides, and with so many workers."""
        over = self._settings.overrides()
        config = with_overrides(load_task(file, POOL_FILE), Overrides(**{**vars(over), "envs": self._settings.envs}))
        if "pool" not in config:
            raise BackendBroken(f"{file or POOL_FILE} has no `pool` section")
        if workers is not None:
            config["pool"] = {"workers": workers}
        return with_secrets(config, self._settings.secret_names())

    def up(self, file: str | None = None, workers: int | None = None) -> None:
        """Makes the pool, or changes it to what is asked; jobs in it go on."""
        with run_folder("staged") as folder:
            self._client.pool_up(stage_worker(self.config(file, workers), folder), self.name)

    def status(self) -> PoolStatus | None:
        """None where there is no such pool."""
        records = [record for record in self._client.pool_status(self.name) if record.get("name") == self.name]
        if not records:
            return None
        workers = tuple(_worker(info) for info in records[0].get("replica_info") or [])
        return PoolStatus(self.name, _word(records[0].get("status")), workers)

    def down(self) -> None:
        """Ends the pool and its machines."""
        self._client.pool_down(self.name)


def _worker(info: Mapping[str, Any]) -> PoolWorker:
    used = info.get("used_by")
    jobs = tuple(int(job) for job in used) if isinstance(used, list | tuple) else ()
    place = info.get("infra") or ", ".join(str(p) for p in (info.get("cloud"), info.get("region")) if p) or "—"
    return PoolWorker(int(info.get("replica_id") or 0), _word(info.get("status")), str(place), jobs)


def _word(status: Any) -> str:
    return str(getattr(status, "value", status))
