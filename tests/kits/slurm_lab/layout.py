"""Where a lab keeps its things: one folder, one set of ports, one mark on all of its processes."""

from __future__ import annotations

import getpass
import json
import os
import socket
from dataclasses import asdict, dataclass
from pathlib import Path

MARK = "EMBED_SLURM_LAB"
"""Environment variable with the lab's folder: proof that a process belongs to this lab."""

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class Ports:
    ssh: int
    slurmctld: int
    slurmd: int
    api: int

    @classmethod
    def free(cls) -> Ports:
        """Four ports that nothing uses now, outside of the range that outgoing connections take."""
        low = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
        found: list[int] = []
        port = 20_000 + os.getpid() % 5_000
        while len(found) < 4:
            port += 1
            if port >= low:
                port = 15_000
            with socket.socket() as probe:
                try:
                    probe.bind(("127.0.0.1", port))
                except OSError:
                    continue
                found.append(port)
        return cls(*found)


@dataclass(frozen=True)
class Layout:
    """The lab's folder. Every path that another module uses is named here."""

    root: Path

    def __post_init__(self) -> None:
        if len(str(self.munge_socket)) > 100:  # a Unix socket's path holds 107 characters
            raise ValueError(f"lab folder {self.root} is too long for a Unix socket: use a shorter path")

    def __getattr__(self, name: str) -> Path:
        """`etc`, `run`, `log`, `state`, `node`, `home`, `client`, `hook`, `tmp`: folders of that name."""
        if name in {"etc", "run", "log", "state", "node", "home", "client", "hook", "tmp"}:
            return self.root / name
        raise AttributeError(name)

    @property
    def munge_socket(self) -> Path:
        return self.root / "run" / "munge.sock"

    @property
    def slurm_conf(self) -> Path:
        return self.etc / "slurm.conf"

    @property
    def ssh_key(self) -> Path:
        return self.home / ".ssh" / "id_slurm"

    @property
    def runtime(self) -> Path:
        """The Python environment that SkyPilot finds ready on the node."""
        return self.node / "runtime"

    @property
    def user_env(self) -> Path:
        """The Python environment that each SkyPilot cluster gets a copy of, for its jobs."""
        return self.node / "user-env"

    def make(self) -> None:
        for folder in (self.etc, self.run, self.log, self.client, self.hook, self.tmp):
            folder.mkdir(parents=True, exist_ok=True, mode=0o755)
        for folder in (self.state / "ctld", self.state / "d", self.node / "workdir", self.node / "tmp"):
            folder.mkdir(parents=True, exist_ok=True, mode=0o755)
        for folder in (self.home / ".sky", self.home / ".slurm", self.home / ".ssh"):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def ports(self) -> Ports:
        """This lab's ports: chosen at the first call, then kept in the folder."""
        kept = self.root / "ports.json"
        if kept.exists():
            return Ports(**json.loads(kept.read_text()))
        ports = Ports.free()
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(json.dumps(asdict(ports)))
        return ports

    def service_env(self, **more: str) -> dict[str, str]:
        """Environment of every process that the lab starts. Nothing is inherited from the caller."""
        return {
            MARK: str(self.root),
            "HOME": str(self.home),
            "LANG": "C.UTF-8",
            "PATH": SYSTEM_PATH,
            "SLURM_CONF": str(self.slurm_conf),
            "USER": getpass.getuser(),
            **more,
        }
