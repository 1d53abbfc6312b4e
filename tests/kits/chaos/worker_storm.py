"""One partition under fire: attempts on it, killed or frozen, and the proof of what they leave."""

import multiprocessing
import os
import signal
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from embed_assets.upkeep import gc, leases
from embed_worker.attempt.checkpoints import Checkpoints
from embed_worker.attempt.writing import UNWRITTEN
from embed_worker.exits import ExitCode
from embed_worker.lake import layout
from embed_worker.lake.layout import Partitioning
from embed_worker.lake.store import Store
from tests.kits.attempt.histories import cut
from tests.kits.attempt.jobs import make_job, make_texts, manifest_of, numbers, prove, run, shard_table, write_job
from tests.kits.chaos.figures import record
from tests.kits.chaos.worker_process import KILLED, Orders, carry_out, diary_of, state_of

REJECTED = {173: "blank text"}


def some_texts(count: int) -> list[str]:
    texts = make_texts(count)
    texts[17] = " "
    return texts


TEXTS = some_texts(18)
ROWS = 3
KNOWN = 7
"""Of so many texts one is known from an earlier shard."""
PATIENCE = 120.0
"""Seconds; only a broken test waits that long."""

SERVER = multiprocessing.get_context("forkserver")
LATE = ("_strptime", "numpy.ma", "numpy.random", "pandas", "s3fs")
"""What an attempt imports as it goes."""
SERVER.set_forkserver_preload(["pytest", *LATE, "tests.kits.chaos.worker_process"])


class Partition:
    """A job of a few texts in a lake of its own. Every process it starts is gone when the `with` ends."""

    def __init__(self, root: str, folder: Path, texts: Sequence[str] = TEXTS, **job: Any) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.texts = folder, texts
        made = make_job(root, texts, **{"checkpoint_rows": ROWS, "heartbeat_seconds": 0.5, **job})
        known = {f"known-{n}": text for n, text in enumerate(texts) if n % KNOWN == 0 and text.strip()}
        (earlier,) = cut(root, known, Partitioning("content", 1), dataset="earlier", spec=made.spec.model_dump())
        run(earlier)
        self.job = made.model_copy(update={"reuse": [earlier.shard]})
        self.url = write_job(self.job)
        self.store = Store(root)
        self.kept = {path for path, _ in self.store.walk("")}
        self.kills = 0
        self._processes: list[ForkServerProcess] = []

    def __enter__(self) -> "Partition":
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            if process.is_alive():
                process.kill()  # also where it is stopped
            process.join()
            process.close()

    # -- attempts --------------------------------------------------------------------------------

    def start(self, armed: str = "", url: str | None = None, **orders: Any) -> ForkServerProcess:
        process = SERVER.Process(target=carry_out, args=(Orders(url or self.url, str(self.folder), armed, **orders),))
        process.start()
        self._processes.append(process)
        return process

    def end_of(self, process: ForkServerProcess, allowed: Sequence[int] = (ExitCode.DONE, KILLED)) -> int:
        """The exit code, once it is over. Kills are counted."""
        process.join(PATIENCE)
        assert process.exitcode is not None, f"an attempt does not end\n{self.log()}"
        assert process.exitcode in allowed, f"exit code {process.exitcode}\n{self.log()}"
        self.kills += process.exitcode == KILLED
        return process.exitcode

    def run(
        self,
        armed: str = "",
        allowed: Sequence[int] = (ExitCode.DONE, KILLED),
        kill_after: float | None = None,
        **orders: Any,
    ) -> int:
        """The exit code of an attempt that has no twin.

        It does nothing again that was done before, and loses no more than the docs say.
        """
        before = self.done()
        process = self.start(armed, **orders)
        if kill_after is not None:
            process.join(kill_after)
            if process.is_alive():
                process.kill()
        code = self.end_of(process, allowed)
        after, begun = self.done(), self._begun(process)
        assert before <= after, f"gone: {before - after}\n{self.log()}"
        assert not begun & before, f"embedded again: {begun & before}\n{self.log()}"
        assert len(begun - after) <= 1 + UNWRITTEN, f"lost: {begun - after}\n{self.log()}"
        return code

    def done(self) -> set[int]:
        """The checkpoints that are committed, with or without the partition."""
        checkpoints = Checkpoints(self.store, self.job)
        return checkpoints.committed() if not self.committed else set(range(checkpoints.count))

    def _begun(self, process: ForkServerProcess) -> set[int]:
        """The checkpoints that an attempt's engine has begun."""
        path = diary_of(str(self.folder))
        lines = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
        return {int(index) for pid, index in lines if int(pid) == process.pid}

    def start_and_freeze(self, name: str, count: int = 1, **orders: Any) -> ForkServerProcess:
        """An attempt that stands at a failpoint, or has ended without getting there."""
        process = self.start(f"{name}:{count}:stop", **orders)
        end = time.monotonic() + PATIENCE
        while process.is_alive() and not is_frozen(process):
            assert time.monotonic() < end, f"neither at {name} nor over\n{self.log()}"
            time.sleep(0.005)
        return process

    def take_part_names(self) -> None:
        """Puts other content where the parts would go, as a damaged file or one of another worker's cut."""
        for index in range(2):
            self.store.create(f"{self.job.shard.folder}/{layout.part_name(index)}", b"not what you think")

    @property
    def committed(self) -> bool:
        return self.store.exists(self.job.shard.manifest_path)

    def manifest(self) -> bytes:
        return self.store.read(self.job.shard.manifest_path)

    def log(self) -> str:
        """What the last attempts said, for a test that fails."""
        return self.whole_log()[-8_000:]

    def whole_log(self) -> str:
        path = self.folder / "log"
        return path.read_text() if path.exists() else ""

    # -- proof -----------------------------------------------------------------------------------

    def prove(self, undisturbed: pa.Table | None = None, zombies: int = 0) -> None:
        """Every row once and the vectors right; nothing left over."""
        assert self.run() == ExitCode.DONE, "the next start sweeps what the last did not live to"
        table = shard_table(self.job, _new(self.folder / "count"))
        wanted = {f"id-{row}" for row in numbers(self.texts) if row not in REJECTED}
        found = Counter(zip(*(table.column(name).to_pylist() for name in ("id", "chunk")), strict=True))
        lost = len(wanted - {row for row, _ in found})
        doubled = sum(count - 1 for count in found.values())
        orphans = self._orphans(self.job.shard.folder)  # after the sweep
        self._remove_garbage()
        orphans += self._orphans("")
        record(kills=self.kills, zombies=zombies, lost=lost, doubled=doubled, orphans=len(orphans))
        assert (lost, doubled) == (0, 0), self.log()
        assert orphans == [], self.log()
        proved = prove(self.job, self.texts, _new(self.folder / "prove"), REJECTED)
        assert undisturbed is None or proved.equals(undisturbed)

    def _remove_garbage(self) -> None:
        """As `embed-assets gc --yes` when all is old."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(leases, "LIVE_SECONDS", 0.0)
            patch.setattr(leases, "WAIT_SECONDS", 0.0)
            patch.setattr(gc, "SCRATCH_SECONDS", 0.0)
            for item in list(gc.find_garbage(self.store)):
                self.store.delete(item.path)

    def _orphans(self, folder: str) -> list[str]:
        """Files that no manifest accounts for. Listings may show folders without any: SeaweedFS keeps them."""
        accounted = {
            *self.kept,
            self.job.shard.manifest_path,
            f"embedding_spaces/{self.job.spec.spec_id}.json",
            *(f"{self.job.shard.folder}/{file.path}" for file in manifest_of(self.job).listed),
        }
        return [path for path, _ in self.store.walk(folder) if path not in accounted]


def is_frozen(process: ForkServerProcess) -> bool:
    return process.pid is not None and state_of(process.pid) == "T"


def freeze(process: ForkServerProcess) -> None:
    _signal(process, signal.SIGSTOP)


def thaw(process: ForkServerProcess) -> None:
    _signal(process, signal.SIGCONT)


def _signal(process: ForkServerProcess, number: int) -> None:
    assert process.pid is not None
    if process.is_alive():
        with suppress(ProcessLookupError):  # it has ended just now
            os.kill(process.pid, number)


def _new(folder: Path) -> Path:
    folder.mkdir()
    return folder
