"""What `embed-assets pool …` prints."""

import contextlib
from collections.abc import Iterator

from rich.table import Table

from embed_assets.tell.terminal import CommandError, console, shown
from resources.compute import ComputeUnavailable
from resources.skypilot.pool import Pool, PoolStatus
from resources.skypilot.settings import SkyPilotSettings


def up(workers: int | None, file: str | None) -> None:
    pool = Pool(SkyPilotSettings())
    with _told(), console.status(shown(f"asking SkyPilot for pool {pool.name} …")):
        pool.up(file, workers)
    console.print(f"pool {pool.name} is being made; `embed-assets pool status` shows when its machines are READY")
    console.print(f"Send partitions to it with EMBED_COMPUTE=skypilot EMBED_SKY_POOL={pool.name}")


def status() -> None:
    pool = Pool(SkyPilotSettings())
    with _told():
        found = pool.status()
    if found is None:
        raise CommandError(f"there is no pool {pool.name}: `embed-assets pool up` makes it")
    _print(found)


def down() -> None:
    pool = Pool(SkyPilotSettings())
    with _told():
        if pool.status() is None:
            raise CommandError(f"there is no pool {pool.name}")
        with console.status(shown(f"ending pool {pool.name} …")):
            pool.down()
    console.print(f"pool {pool.name} is going down; `embed-assets pool status` shows when it is gone")


def _print(found: PoolStatus) -> None:
    table = Table(
        title=shown(f"pool {found.name}: {found.status}, {found.ready} of {len(found.workers)} ready"),
        title_justify="left",
    )
    for name in ("worker", "status", "where", "jobs"):
        table.add_column(name)
    for worker in found.workers:
        jobs = ", ".join(map(str, worker.jobs)) or "—"
        table.add_row(str(worker.number), worker.status, shown(worker.infra), jobs)
    console.print(table)


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """An API server that does not answer is one sentence here too."""
    try:
        yield
    except ComputeUnavailable as error:
        raise CommandError(f"{error}. Is the API server up? `sky api info` says") from error
