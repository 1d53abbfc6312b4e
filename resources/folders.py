"""Temporary folders of a run. The next run removes those of a run that was killed."""

import os
import shutil
import stat
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from resources.compute import BackendBroken


@contextmanager
def run_folder(kind: str) -> Iterator[Path]:
    """An empty folder for as long as the context lasts, under a lock that ends with this process, however it ends."""
    parent = _parent()
    for left in parent.iterdir():
        if left.is_dir():
            _remove_if_left(left)
    name = f"{kind}-{uuid.uuid4().hex[:8]}"
    with FileLock(
        parent / f"{name}.lock", thread_local=False
    ):  # before there is a folder: one without its lock is nobody's
        folder = parent / name
        folder.mkdir(mode=0o700)
        try:
            yield folder
        finally:
            _remove(folder)


def _parent() -> Path:
    """Its name can be guessed, so it must be ours. Raises BackendBroken."""
    folder = Path(tempfile.gettempdir()) / f"embed-assets-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o022:
        raise BackendBroken(f"{folder} is not this user's own folder; remove it, or set TMPDIR")
    return folder


def _remove_if_left(folder: Path) -> None:
    try:
        with FileLock(folder.with_name(f"{folder.name}.lock"), timeout=0):
            _remove(folder)
    except (Timeout, OSError):
        return  # its run lives, or another one removes it just now


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.with_name(f"{folder.name}.lock").unlink(missing_ok=True)
