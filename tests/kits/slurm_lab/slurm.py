"""munged, sshd, slurmctld and slurmd: one Slurm cluster with one node, on loopback."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tests.kits.slurm_lab import templates
from tests.kits.slurm_lab.layout import Layout, Ports
from tests.kits.slurm_lab.needs import which
from tests.kits.slurm_lab.procs import Services, wait_for

SERVICES = ("munged", "sshd", "slurmctld", "slurmd")


class Slurm:
    def __init__(self, layout: Layout, ports: Ports, fakes: templates.Fakes, services: Services) -> None:
        self.layout, self.ports, self.fakes, self.services = layout, ports, fakes, services

    def command(self, *words: str, seconds: float = 20) -> str:
        """Run a Slurm command against this cluster and return what it prints."""
        done = subprocess.run(
            words, env=self.layout.service_env(), capture_output=True, text=True, timeout=seconds, check=False
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(words)}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout

    def _works(self, *words: str) -> bool:
        try:
            self.command(*words)
        except (RuntimeError, subprocess.TimeoutExpired):
            return False
        return True

    def write_configs(self) -> None:
        lay, write = self.layout, templates.write
        if not (lay.etc / "munge.key").exists():
            write(lay.etc / "munge.key", "", 0o600)
            (lay.etc / "munge.key").write_bytes(os.urandom(128))
            (lay.etc / "munge.key").chmod(0o400)
        for key in (lay.etc / "host_key", lay.ssh_key):
            if not key.exists():
                keygen = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "slurm-lab", "-f", str(key)]
                subprocess.run(keygen, check=True)
        write(lay.etc / "authorized_keys", lay.ssh_key.with_suffix(".pub").read_text(), 0o600)
        write(lay.slurm_conf, templates.slurm_conf(lay, self.ports, self.fakes))
        write(lay.etc / "gres.conf", templates.gres_conf(lay, self.fakes))
        write(lay.etc / "sshd_config", templates.sshd_config(lay, self.ports))
        write(lay.etc / "task_prolog.sh", templates.task_prolog(lay), 0o755)
        write(lay.etc / "uv", templates.uv(lay), 0o755)

    def up(self) -> None:
        lay = self.layout
        self._start(
            "munged", "--foreground", "--force", f"--key-file={lay.etc}/munge.key",
            f"--socket={lay.munge_socket}", f"--pid-file={lay.run}/munged.pid",
            f"--log-file={lay.log}/munged.log", f"--seed-file={lay.state}/munged.seed",
        )  # fmt: skip
        Path("/run/sshd").mkdir(exist_ok=True)  # sshd's fixed, empty privilege separation folder
        self._start("sshd", "-D", "-f", f"{lay.etc}/sshd_config", "-E", f"{lay.log}/sshd.log")
        munge = ("munge", "-n", "-S", str(lay.munge_socket))
        wait_for("munged answers", lambda: self._works(*munge), 10)
        self._start("slurmctld", "-D", "-f", str(lay.slurm_conf))
        self._start("slurmd", "-D", "-f", str(lay.slurm_conf), "-N", templates.NODE)
        wait_for("slurmctld answers", lambda: self._works("scontrol", "ping"), 20)
        state = ("sinfo", "-h", "-o", "%T", "-n", templates.NODE)
        wait_for(
            "the Slurm node is ready",
            lambda: self.command(*state).split()[0].rstrip("*") in ("idle", "mixed", "allocated"),
            30,
            pause=0.3,
        )

    def _start(self, name: str, *arguments: str) -> None:
        if self.services.pid(name) is None:
            program = which(name)
            if program is None:
                raise RuntimeError(f"{name} is not installed: python -m tests.kits.slurm_lab install")
            self.services.start(name, [program, *arguments], self.layout.service_env())

    def jobs(self) -> list[dict[str, str]]:
        """Slurm jobs that are not gone: id, name (SkyPilot's cluster), state, partition."""
        names = ("id", "name", "state", "partition")
        rows = self.command("squeue", "-h", "-o", "%i|%j|%T|%P").splitlines()
        return [dict(zip(names, row.split("|"), strict=True)) for row in rows]

    def cancel(self, *job_ids: str) -> None:
        if job_ids:
            self.command("scancel", *job_ids)

    def down(self) -> None:
        if self.services.pid("slurmctld") and self.services.pid("slurmd"):
            try:
                self.cancel(*[job["id"] for job in self.jobs()])
                wait_for("Slurm's queue is empty", lambda: not self.jobs(), 20, pause=0.3)
            except (RuntimeError, TimeoutError, subprocess.TimeoutExpired):
                pass  # the processes are found and ended by their mark
        for name in reversed(SERVICES):
            self.services.stop(name)
