"""Who makes what, where several runs begin the same work together: a word in the lake, which binds nobody for long."""

import time
import uuid

from embed_worker.lake.store import Store

PATIENCE = 60.0
"""Seconds after which a claim that has not come to anything is passed over: its holder was killed."""


class Claims:
    """Claims of one process in a folder. A claim saves work and proves nothing: the commit decides."""

    def __init__(self, store: Store, folder: str) -> None:
        self._store, self._folder = store, folder
        self._mine = uuid.uuid4().hex.encode()
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
        known, since = self._seen.get(name, (b"", 0.0))
        if holder != known:
            self._seen[name] = (holder, time.monotonic())
        elif time.monotonic() - since > PATIENCE:
            self._store.delete(path)
            return False
        time.sleep(0.2)
        return False

    def release(self, name: str) -> None:
        self._store.delete(self._path(name))

    def _path(self, name: str) -> str:
        return f"{self._folder}/{name}.claim"
