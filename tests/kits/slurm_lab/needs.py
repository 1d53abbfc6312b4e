"""What the lab needs on this machine, and how to get it."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

APT_PACKAGES = {  # package: a command that it brings
    "slurmctld": "slurmctld",
    "slurmd": "slurmd",
    "slurm-client": "squeue",
    "munge": "munged",
    "openssh-server": "sshd",
    "openssh-client": "ssh",
    "rsync": "rsync",
    "netcat-openbsd": "nc",
    "socat": "socat",
    "iproute2": "ss",
    "procps": "ps",
}
SKYPILOT = "skypilot[slurm]==0.14.1"
_PATH = os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin:/sbin"
_POLICY = Path("/usr/sbin/policy-rc.d")


def which(command: str) -> str | None:
    """Daemons live in /usr/sbin, which not every PATH has."""
    return shutil.which(command, path=_PATH)


def default_sky_python() -> Path:
    """The platform environment's Python: the running one if it has SkyPilot, else the checkout's .venv."""
    try:
        importlib.metadata.version("skypilot")
    except importlib.metadata.PackageNotFoundError:
        return Path(__file__).resolve().parents[3] / ".venv" / "bin" / "python"
    return Path(sys.executable)


def missing_apt() -> list[str]:
    return [package for package, command in APT_PACKAGES.items() if which(command) is None]


def missing(sky_python: Path | None = None) -> list[str]:
    """One line for each thing that is missing, with how to get it; empty when the lab can start."""
    python = sky_python or default_sky_python()
    lines = []
    packages = missing_apt()
    if packages:
        lines.append(f"Debian packages {' '.join(packages)}: `python -m tests.kits.slurm_lab install` (as root)")
    if os.geteuid() != 0:
        lines.append("root: slurmd switches users and sshd opens sessions; run the tests as root")
    probe = "import importlib.metadata as m; m.version('python-hostlist'); print(m.version('skypilot'))"
    try:
        found = subprocess.run([python, "-c", probe], capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        found = ""
    if found != SKYPILOT.partition("==")[2]:
        have = f"has SkyPilot {found}" if found else "has no SkyPilot for Slurm"
        lines.append(f"{SKYPILOT}: {python} {have}; `{python} -m pip install '{SKYPILOT}'`")
    return lines


@contextmanager
def _no_daemons() -> Iterator[None]:
    """Debian asks this script before it starts a daemon after an install: 101 means no."""
    if _POLICY.exists():
        if subprocess.run([_POLICY, "slurmd", "start"], capture_output=True, check=False).returncode != 101:
            raise RuntimeError(f"{_POLICY} lets apt start daemons: not installing over it")
        yield
        return
    _POLICY.write_text("#!/bin/sh\nexit 101\n")
    _POLICY.chmod(0o755)
    try:
        yield
    finally:
        _POLICY.unlink()


def install() -> list[str]:
    """apt-get install what is missing, without a question and without starting any daemon."""
    packages = missing_apt()
    if not packages:
        return []
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    with _no_daemons():
        for command in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", *packages]):
            done = subprocess.run(["apt-get", *command], env=env, capture_output=True, text=True, check=False)
            if done.returncode:
                raise RuntimeError(f"apt-get {' '.join(command)} failed:\n{done.stdout}{done.stderr}")
    return packages
