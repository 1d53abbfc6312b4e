"""Files that appear on a local disk as a whole or not at all."""

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import IO

from embed_worker.lake import failpoints
from embed_worker.lake.layout import temporary_name


def create(target: Path, write: Callable[[IO[bytes]], object]) -> bool:
    """Writes a file that must not exist yet. False where it exists."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():
        return False
    temporary = target.with_name(temporary_name(target.name))
    try:
        _write(temporary, write)
        failpoints.reach("store.temporary")
        try:
            os.link(temporary, target)
        except FileExistsError:
            return False
        failpoints.reach("store.linked")
        _fsync_folder(target.parent)
        return True
    finally:
        temporary.unlink(missing_ok=True)


def create_from(target: Path, source: Path) -> bool:
    """Like `create`, from a file; one on the same disk is not copied."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with source.open("rb") as file:
        os.fsync(file.fileno())
    try:
        os.link(source, target)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        with source.open("rb") as file:
            return create(target, lambda f: shutil.copyfileobj(file, f, 1 << 20))
    _fsync_folder(target.parent)
    return True


def replace(target: Path, data: bytes) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(temporary_name(target.name))
    try:
        _write(temporary, lambda f: f.write(data))
        failpoints.reach("store.replacing")
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def remove(target: Path) -> None:
    """A file or folder; one that is gone already is fine."""
    if target.is_dir() and not target.is_symlink():
        shutil.rmtree(target, ignore_errors=True)
    else:
        target.unlink(missing_ok=True)


def _write(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    with path.open("xb") as file:
        write(file)
        file.flush()
        os.fsync(file.fileno())


def _fsync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
