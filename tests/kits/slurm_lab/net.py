"""What do the lab's processes talk to? The answer must be: nothing outside of this machine."""

from __future__ import annotations

import ipaddress
import re
import subprocess

from tests.kits.slurm_lab.layout import Layout
from tests.kits.slurm_lab.procs import cmdline, owned


def _is_loopback(address: str) -> bool:
    host = address.rpartition(":")[0].strip("[]").split("%")[0]
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped:
        ip = ip.ipv4_mapped
    return ip.is_loopback


def outside_connections(layout: Layout) -> list[str]:
    """The lab's sockets (TCP and UDP, from `ss`) that listen on or are connected to more than loopback."""
    ours = set(owned(layout))
    table = subprocess.run(["ss", "-tunapH"], capture_output=True, text=True, check=True).stdout
    found = []
    for line in table.splitlines():
        pids = sorted({int(pid) for pid in re.findall(r"pid=(\d+)", line)} & ours)
        if not pids:
            continue
        _, state, _, _, local, peer = line.split()[:6]
        listens = state in ("LISTEN", "UNCONN")
        if not _is_loopback(local if listens else peer):
            found.append(f"{state} {local} -> {peer} pid {pids[0]} {cmdline(pids[0])[:100]}")
    return found


def refused_connections(layout: Layout) -> list[str]:
    """Attempts to reach an outside address that the lab's hook refused before a packet left."""
    log = layout.log / "refused.log"
    return log.read_text().splitlines() if log.exists() else []
