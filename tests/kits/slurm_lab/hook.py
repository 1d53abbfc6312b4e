"""Becomes `sitecustomize.py` in the lab's hook folder: adapts SkyPilot to a machine without internet.

It is on the path of the lab's API server (PYTHONPATH, which its executors and job controllers inherit) and of
the node's runtime (a .pth file): no file of SkyPilot is edited. It must not import anything but the standard
library. A patch that does not fit this SkyPilot raises ImportError: nothing starts half patched.

- the network probe asks the local API server instead of two public addresses;
- skylets, of which several share this one node, listen on loopback, on ports of their own;
- a socket to any other address is refused and written down in log/refused.log.
"""

from __future__ import annotations

import errno
import importlib.abc
import importlib.machinery
import ipaddress
import json
import os
import socket
import sys
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

LAB: dict[str, str] = json.loads(Path(__file__).with_name("lab.json").read_text(encoding="utf-8"))

ATTRIBUTES: dict[str, dict[str, Any]] = {
    "sky.backends.backend_utils": {"_TEST_IP_LIST": [LAB["probe_url"]]},
}
SOURCES: dict[str, tuple[str, str]] = {
    "sky.skylet.attempt_skylet": (
        "find_free_port(constants.SKYLET_GRPC_PORT)",
        "find_free_port(constants.SKYLET_GRPC_PORT + os.getpid() % 4000)",
    ),
    "sky.skylet.skylet": ("f'0.0.0.0:{port}'", "f'127.0.0.1:{port}'"),
}


class _Loader(importlib.machinery.SourceFileLoader):
    def get_code(self, fullname: str) -> CodeType | None:  # also what `python -m` runs
        if fullname not in SOURCES:
            return super().get_code(fullname)
        old, new = SOURCES[fullname]
        source = self.get_source(fullname) or ""
        if source.count(old) != 1:
            raise ImportError(f"slurm lab: {fullname} has {source.count(old)} times {old!r}, expected one")
        return compile(source.replace(old, new), self.path, "exec", dont_inherit=True)

    def exec_module(self, module: ModuleType) -> None:
        super().exec_module(module)
        for name, value in ATTRIBUTES.get(module.__name__, {}).items():
            if not hasattr(module, name):
                raise ImportError(f"slurm lab: {module.__name__} has no {name}")
            setattr(module, name, value)


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> Any:
        if fullname not in ATTRIBUTES and fullname not in SOURCES:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.origin is not None:
            spec.loader = _Loader(fullname, spec.origin)
        return spec


def _is_local(host: Any) -> bool:
    if isinstance(host, bytes):
        host = host.decode(errors="replace")
    if host in (None, "", "localhost", socket.gethostname()):
        return True
    try:
        address = ipaddress.ip_address(str(host).split("%")[0])
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def _audit(event: str, args: tuple[Any, ...]) -> None:
    if event in ("socket.connect", "socket.sendto"):
        address = args[1]
        host = address[0] if isinstance(address, tuple) else None  # a Unix socket has a string
    elif event == "socket.getaddrinfo":
        host = args[0]
    else:
        return
    if _is_local(host):
        return
    line = f"pid {os.getpid()} {event} {host!r} argv {sys.argv[:3]}\n"
    fd = os.open(LAB["refused_log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(fd, line.encode())
    finally:
        os.close(fd)
    if event == "socket.getaddrinfo":
        raise socket.gaierror(socket.EAI_FAIL, f"slurm lab: {host!r} is outside this machine")
    raise OSError(errno.ENETUNREACH, f"slurm lab: {host!r} is outside this machine")


sys.meta_path.insert(0, _Finder())
sys.addaudithook(_audit)
