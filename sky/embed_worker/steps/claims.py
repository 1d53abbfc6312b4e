"""Who makes what, where several runs begin the same work together: a word in the lake, which binds nobody for long."""

import os
import socket
import time
import uuid

from embed_worker.lake.store import Store

PATIENCE = 60.0
"""Seconds after which a claim that has not come to anything is passed over: its holder was killed."""


class Claims:
    """Claims of one process in a folder. A claim saves work and proves nothing: the commit decides."""

    def __init__(self, store: Store, folder: str) -> None:
        self._store, self._folder = store, folder
        self._mine = f"{socket.gethostname()} {os.getpid()} {uuid.uuid4().hex}".encode()
        self._seen: dict[str, tuple[bytes, float]] = {}
        """Claims of others, and when this process saw each first: no clock but its own counts."""

    def take(self, name: str) -> bool:
        """Whether this process is to do the work; else it has waited a moment, and looks whether it is done."""
        path = self._path(name)
        if self._store.create(path, self._mine):
            return True
        try:
            holder = self._store.read(path)
        except FileNotFoundError:
            return False
        if holder == self._mine:
            return True
        if holder != self._seen.get(name, (b"", 0.0))[0]:
            self._seen[name] = (holder, time.monotonic())
        if time.monotonic() - self._seen[name][1] > PATIENCE or _is_dead(holder):
            self._store.delete(path)
            return False
        time.sleep(0.2)
        return False

    def release(self, name: str) -> None:
        self._store.delete(self._path(name))

    def _path(self, name: str) -> str:
        return f"{self._folder}/{name}.claim"


def _is_dead(holder: bytes) -> bool:
    """Whether the claim is of a process of this machine that is no more; of another machine's nothing is known."""
    host, _, rest = holder.decode(errors="replace").partition(" ")
    pid = rest.partition(" ")[0]
    if host != socket.gethostname() or not pid.isdigit():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except (PermissionError, OverflowError):
        return False
    return False
