"""`SlurmLab`: everything up, everything down, and the handles that tests need."""

from __future__ import annotations

import os
import re
import shutil
import time
from pathlib import Path
from types import TracebackType

from tests.kits.slurm_lab import catalogs, footprint, needs, net
from tests.kits.slurm_lab.layout import SYSTEM_PATH, Layout
from tests.kits.slurm_lab.procs import Services, cmdline, owned, start_times, stop_pids
from tests.kits.slurm_lab.skypilot import SkyPilot
from tests.kits.slurm_lab.slurm import SERVICES, Slurm
from tests.kits.slurm_lab.templates import CLUSTER, PARTITIONS, Fakes


class SlurmLab:
    """munge, Slurm, sshd and a SkyPilot API server with real managed jobs, in one folder, on loopback.

    >>> with SlurmLab(tmp_path / "lab") as lab:
    ...     subprocess.run(["sky", "jobs", "queue"], env=lab.env())
    """

    cluster = CLUSTER
    partitions = PARTITIONS

    def __init__(self, folder: Path, sky_python: Path | None = None, fakes: Fakes | None = None) -> None:
        self.layout = Layout(Path(folder).resolve())
        self.folder = self.layout.root
        self.sky_python = sky_python or needs.default_sky_python()
        self.fakes = fakes or Fakes()
        self.seconds: dict[str, float] = {}
        """How long each phase of up() and down() took."""
        self.ports = self.layout.ports()
        self._services = Services(self.layout)
        self.slurm = Slurm(self.layout, self.ports, self.fakes, self._services)
        self.sky = SkyPilot(self.layout, self.ports, self.fakes, self._services, self.sky_python)

    def missing(self) -> list[str]:
        """What this machine lacks, with how to get it; empty when `up` can work."""
        return needs.missing(self.sky_python)

    def up(self) -> SlurmLab:
        """Start what is not running yet. On failure the error has the logs, and nothing stays behind."""
        lacking = self.missing()
        if lacking:
            raise RuntimeError("the slurm lab needs:\n" + "\n".join(lacking))
        if all(self.status().values()) and self.sky.healthy():
            return self
        try:
            self.layout.make()
            footprint.remember(self.layout)
            with self._timed("prepare"):
                self.slurm.write_configs()
                self.sky.prepare()
            with self._timed("slurm"):
                self.slurm.up()
            with self._timed("api_server"):
                self.sky.up()
            with self._timed("sky_check"):
                self.sky.check()
            self.assert_inside()
        except BaseException as error:
            error.add_note(self.logs())
            self.down()
            raise
        return self

    def down(self) -> None:
        """Stop everything that belongs to this lab, also what an earlier, killed process started."""
        with self._timed("down"):
            before = start_times(owned(self.layout))  # a session of sshd is known by its parent only
            stop_pids([self._services.pid("api") or 0, *owned(self.layout, server_side=True)], 1)
            self.slurm.down()
            survivors = {pid for pid, began in start_times(before).items() if before[pid] == began}
            stop_pids(survivors.union(owned(self.layout)), 3)
            footprint.clean(self.layout)
            shutil.rmtree(self.sky.sockets, ignore_errors=True)
        left = self.processes()
        if left:
            raise RuntimeError(f"still running: {left}")

    def purge(self) -> None:
        """down(), and remove the folder."""
        self.down()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> SlurmLab:
        return self.up()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.down()

    def env(self) -> dict[str, str]:
        """Environment for a client process: Dagster, the `sky` command, a script with SkyPilot's SDK."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("SKYPILOT_", "SKY_", "SLURM_"))}
        kept.pop("PYTHONPATH", None)
        path = f"{self.sky.bin}:{kept.get('PATH', SYSTEM_PATH)}"
        return {**kept, **self.sky.client_env(), "PATH": path}

    @property
    def url(self) -> str:
        """The API server's endpoint."""
        return self.sky.url

    def infra(self, partition: str = "spot") -> str:
        """Value for a task's `resources: infra:`."""
        return f"slurm/{CLUSTER}/{partition}"

    def slurm_jobs(self) -> list[dict[str, str]]:
        """Live Slurm jobs: dicts with id, name (SkyPilot's cluster name), state, partition."""
        return self.slurm.jobs()

    def preempt(self, job: str | int) -> list[str]:
        """Take the machine from a managed job (its name or id) or cluster: scancel. Returns the Slurm ids."""
        hit = [found["id"] for found in self.slurm_jobs() if self._backs(found["name"], job)]
        if not hit:
            names = [found["name"] for found in self.slurm_jobs()]
            raise LookupError(f"no Slurm job backs {job!r}; there are {names}")
        self.slurm.cancel(*hit)
        return hit

    @staticmethod
    def _backs(cluster: str, job: str | int) -> bool:
        """SkyPilot names a managed job's cluster `<job name, cut to 25>-<job id>-<user hash>`."""
        if isinstance(job, int):
            return re.fullmatch(rf".*-{job}-[0-9a-f]+", cluster) is not None
        return cluster == job or re.fullmatch(rf"{re.escape(job[:25].rstrip('-'))}-\d+-[0-9a-f]+", cluster) is not None

    def api_down(self, kill: bool = False) -> None:
        """Stop only the API server: clients see an outage, running jobs go on. `kill` is a crash."""
        self.sky.stop_server(kill)

    def api_up(self) -> None:
        """Start it again; returns when it answers."""
        self.sky.up()

    def seed_catalogs(self, home: Path | None = None) -> Path:
        """Price lists for aws and gcp in a HOME (default: that of `env()`; up() does it for server and client)."""
        return catalogs.seed_catalogs(home or self.layout.client)

    def processes(self) -> list[str]:
        """`pid command` of every living process of this lab."""
        return [f"{pid} {cmdline(pid)}" for pid in owned(self.layout)]

    def status(self) -> dict[str, int | None]:
        """Pid of each service, None where it is not running."""
        return {name: self._services.pid(name) for name in (*SERVICES, "api")}

    def outside_connections(self) -> list[str]:
        """Sockets of the lab that reach beyond loopback. Must be empty."""
        return net.outside_connections(self.layout)

    def refused_connections(self) -> list[str]:
        """Attempts to reach beyond loopback that were stopped before anything left the machine."""
        return net.refused_connections(self.layout)

    def assert_inside(self) -> None:
        outside = self.outside_connections()
        if outside:
            raise AssertionError("the lab reaches beyond this machine:\n" + "\n".join(outside))

    def logs(self, lines: int = 40) -> str:
        """The end of every log, for a failing test to print."""
        return self._services.tail(lines)

    def _timed(self, phase: str) -> _Timer:
        return _Timer(self.seconds, phase)


class _Timer:
    def __init__(self, into: dict[str, float], phase: str) -> None:
        self.into, self.phase = into, phase

    def __enter__(self) -> None:
        self.began = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self.into[self.phase] = round(time.monotonic() - self.began, 1)
