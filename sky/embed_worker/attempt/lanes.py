"""Several engines on one node: a process each, which share the partition by the commit protocol alone.

Lane i of n embeds every n-th checkpoint. The first lane also does what the others have left undone when they are
gone or hang, and commits. A lane that dies costs its share of the speed, never a row.
"""

import logging
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embed_worker.errors import BadJob

LANE = "EMBED_LANE"
"""Of a lane's process: `index/count:fd,fd,…`, a pipe a job. The first lane reads them, the others hold them open."""
ENGINES = "EMBED_ENGINES"
"""How many engines a node runs; default: one a GPU, one on a node without."""
log = logging.getLogger(__name__)

NVIDIA = Path("/proc/driver/nvidia/gpus")
STUCK_SECONDS = 1200.0
"""Without a new checkpoint of anybody's: the first lane, with nothing else to do, then no longer waits for the others.
One that was merely slow goes on beside it, by the commit protocol."""
LOOK_SECONDS = 15.0
GONE_SECONDS = 15.0
"""More than the worker's grace after a signal."""


@dataclass(frozen=True)
class Lane:
    """One engine's share of a partition."""

    index: int = 0
    count: int = 1
    pipe: int | None = None

    @property
    def commits(self) -> bool:
        return self.index == 0

    @property
    def facts(self) -> dict[str, Any]:
        return {"lane": f"{self.index + 1} of {self.count}"} if self.count > 1 else {}

    def turns(
        self, over: Callable[[], bool], committed: Callable[[], set[int]] = set
    ) -> Iterator[Callable[[int], bool]]:
        """Which checkpoints to go through, pass by pass; the caller skips committed ones. `over` ends the waiting."""
        yield lambda index: index % self.count == self.index
        if self.count > 1 and self.commits and self._others_are_gone(over, committed):
            yield lambda index: index % self.count != self.index

    def _others_are_gone(self, over: Callable[[], bool], committed: Callable[[], set[int]]) -> bool:
        """Waits until no process holds the pipe open: they have finished this job, or died. Or until they hang."""
        done, looked = committed(), time.monotonic()
        moved = looked
        while not over():
            if self.pipe is None or select.select([self.pipe], [], [], 0.2)[0]:
                return True  # nobody writes: readable means closed
            if time.monotonic() - looked < LOOK_SECONDS:
                continue
            before, done, looked = done, committed(), time.monotonic()
            if done != before:
                moved = looked
            elif looked - moved > STUCK_SECONDS:
                log.warning("the other engines have committed nothing for %.0f s: doing what they left", looked - moved)
                return True
        return False

    def close(self) -> None:
        """The lane is done with the job."""
        if self.pipe is not None:
            os.close(self.pipe)


SINGLE = Lane()


def lanes_of(jobs: int) -> list[Lane]:
    """This process's lane for each of its jobs."""
    text = os.environ.get(LANE)
    if not text:
        return [SINGLE] * jobs
    place, _, pipes = text.partition(":")
    index, count = (int(part) for part in place.split("/"))
    lanes = [Lane(index, count, int(pipe)) for pipe in pipes.split(",")]
    for lane in lanes:
        assert lane.pipe is not None
        os.set_inheritable(lane.pipe, False)  # a process that the engine starts must not hold it open
    return lanes


def engine_groups(size: int = 1) -> list[str]:
    """CUDA_VISIBLE_DEVICES of each engine of this node, `size` GPUs each; empty strings where there is no GPU."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        devices = [name for part in visible.split(",") if (name := part.strip())]
    else:
        devices = [str(i) for i in range(sum(1 for _ in NVIDIA.iterdir()))] if NVIDIA.is_dir() else []
    wanted = os.environ.get(ENGINES)
    if wanted and not (wanted.isdigit() and int(wanted)):
        raise BadJob(f"{ENGINES}={wanted!r}: it takes the number of engines of this node, 1 or more")
    if not devices:
        return [""] * (int(wanted) if wanted else 1)
    count = max(1, len(devices) // size)
    if wanted:
        count = min(count, int(wanted))
    return [",".join(devices[i * size : (i + 1) * size]) for i in range(count)]


def run_lanes(groups: Sequence[str], jobs: Sequence[str]) -> int:
    """Runs the jobs with an engine a group; returns the first lane's exit code, which stands for all."""
    count = len(groups)
    pipes = [os.pipe() for _ in jobs]
    processes: list[subprocess.Popen[bytes]] = []

    def forward(number: int, _: object) -> None:
        for process in processes:
            if process.poll() is None:
                process.send_signal(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, forward)
    cores = sorted(os.sched_getaffinity(0))
    for index, devices in enumerate(groups):
        ends = [read if index == 0 else write for read, write in pipes]
        environment = {**os.environ, LANE: f"{index}/{count}:{','.join(map(str, ends))}", ENGINES: "1"}
        share = cores[index::count] or cores
        if devices:
            environment["CUDA_VISIBLE_DEVICES"] = devices
        else:
            environment["OMP_NUM_THREADS"] = str(len(share))
        process = subprocess.Popen(
            [sys.executable, "-m", "embed_worker", *jobs], env=environment, pass_fds=ends, stdin=subprocess.DEVNULL
        )
        if not devices:
            os.sched_setaffinity(process.pid, share)
        processes.append(process)
    for pipe in (end for pair in pipes for end in pair):
        os.close(pipe)

    code = processes[0].wait()
    for process in processes[1:]:
        if process.poll() is None:
            process.terminate()  # the first has committed, or nothing will be
    for process in processes[1:]:
        try:
            process.wait(GONE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()  # it hangs where no signal is heard
            process.wait()
    return code if code >= 0 else 128 - code
