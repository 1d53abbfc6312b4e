"""A worker without disk or memory: one clear error, a code that means "try again", nothing half-committed."""

import itertools
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from embed_worker.attempt.checkpoints import Checkpoints
from embed_worker.exits import ExitCode
from embed_worker.lake import files
from tests.kits.chaos.worker_process import KILLED
from tests.kits.chaos.worker_storm import Partition, some_texts

pytestmark = pytest.mark.slow

LONG = int(os.environ.get("EMBED_CHAOS_KILLS", "0")) > 100
ENDS = (ExitCode.DONE, ExitCode.AGAIN, ExitCode.MACHINE, ExitCode.UNAVAILABLE)
CRASHES = (-signal.SIGABRT, -signal.SIGSEGV, -signal.SIGBUS, 127)
"""How C libraries end where they get no memory. None of them stands for a bad job."""


class Ballast:
    """A file that fills a disk but for some bytes."""

    def __init__(self, disk: Path) -> None:
        self._path = disk / "ballast"
        with self._path.open("wb", buffering=0) as file, pytest.raises(OSError):
            while True:
                file.write(b"0" * 4096)

    def throw_off(self, size: int) -> bool:
        """False where there was nothing left."""
        left = self._path.stat().st_size
        os.truncate(self._path, max(0, left - size))
        return left > 0


def nothing_is_half_committed(partition: Partition) -> None:
    """What is in the lake is whole, whatever the attempt died of."""
    assert not partition.committed
    checkpoints = Checkpoints(partition.store, partition.job)
    for index in checkpoints.committed():
        record = checkpoints.record(index)
        assert record.data is None or files.fault_of(partition.store, partition.job.shard.folder, record.data) is None
    for path, _ in partition.store.walk(partition.job.shard.folder):
        if path.endswith(".parquet"):
            with partition.store.open(path) as file:
                pq.read_table(file)


def the_error_is_clear(said: str, path: str) -> None:
    errors = [line for line in said.splitlines() if " ERROR " in line]
    assert len(errors) == 1 and path in errors[0] and "no space left. Free some space, or point" in errors[0], said
    assert "Traceback" not in said


def starve(partition: Partition, disk: Path, step: int, path: str, **orders: str) -> int:
    """Runs with more and more room until it is enough; the number of attempts that had too little.

    `step` is more than what each attempt leaves: its record, its heartbeat, data that it could not commit.
    """
    ballast = Ballast(disk)
    for failures in itertools.count():
        known = len(partition.whole_log())
        if partition.run(allowed=ENDS, **orders) == ExitCode.DONE:
            return failures
        the_error_is_clear(partition.whole_log()[known:], path)
        nothing_is_half_committed(partition)
        names = [file.name for file in disk.rglob("*") if file.name.endswith(".tmp") and file.is_file()]
        assert names == [], "a put that failed leaves no temporary file"
        assert ballast.throw_off(step), "the whole disk is not enough"
    raise AssertionError("unreachable")


@pytest.mark.parametrize("step", [16_384, 20_480, 28_672] if LONG else [16_384])
def test_a_lake_without_space(small_disk: Path, tmp_path: Path, step: int) -> None:
    with Partition(str(small_disk / "lake"), tmp_path / "attempts") as partition:
        assert starve(partition, small_disk, step, str(small_disk)) > 3
        partition.prove()


def test_a_scratch_disk_without_space(s3_root: str, small_disk: Path, tmp_path: Path) -> None:
    with Partition(s3_root, tmp_path / "attempts") as partition:
        assert starve(partition, small_disk, 4096 if LONG else 8192, str(small_disk), scratch=str(small_disk)) > 1
        partition.prove()


def test_a_limit_on_the_size_of_files(lake: str, tmp_path: Path) -> None:
    """EFBIG is told as a full disk is."""
    with Partition(lake, tmp_path / "attempts", some_texts(600), checkpoint_rows=400) as partition:
        assert partition.run(allowed=ENDS, file_bytes=50_000) == ExitCode.MACHINE
        the_error_is_clear(partition.whole_log(), lake)
        nothing_is_half_committed(partition)
        partition.prove()


def test_an_address_space_that_is_too_small(lake: str, tmp_path: Path) -> None:
    """An allocation fails, somewhere else in each attempt."""
    with Partition(lake, tmp_path / "attempts") as partition:
        ends = []
        for step in itertools.count(1):
            spare = int(2e6 * (1.3 if LONG else 2.0) ** step)
            ends.append(partition.run(allowed=(*ENDS, *CRASHES), spare_bytes=spare))
            if ends[-1] == ExitCode.DONE:
                break
            nothing_is_half_committed(partition)
        assert len(ends) > 2, ends
        partition.prove()


@contextmanager
def memory_cgroup(size: int) -> Iterator[str]:
    """A cgroup with so many bytes of memory, of version 1 or 2; skips where this user cannot make one."""
    root = Path("/sys/fs/cgroup")
    folder = (root / "memory" if (root / "memory").is_dir() else root) / f"embed-chaos-{os.getpid()}"
    try:
        folder.mkdir()
        limit = next(path for path in (folder / "memory.limit_in_bytes", folder / "memory.max") if path.exists())
        limit.write_text(str(size))
    except (OSError, StopIteration) as error:
        if folder.is_dir():
            folder.rmdir()
        pytest.skip(f"no memory cgroup can be made here (it takes root, and the memory controller): {error!r}")
    try:
        yield str(folder)
    finally:
        folder.rmdir()


def test_killed_for_its_memory(lake: str, tmp_path: Path) -> None:
    """By the kernel, as in a container with a limit; each attempt gets further."""
    with Partition(lake, tmp_path / "attempts", some_texts(48)) as partition, memory_cgroup(256 << 20) as cgroup:
        for _ in range(3):
            before = partition.done()
            assert partition.run(cgroup=cgroup, eats=1 << 30) == KILLED, partition.log()
            nothing_is_half_committed(partition)
            assert partition.done() > before
        partition.prove()
