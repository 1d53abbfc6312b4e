"""Several engines on one node: a process each, which share the partition by the commit protocol alone.

Each takes the next checkpoint that no other has claimed, so that fast and slow ones end together; a claim is a file in
a folder of this node. The first lane also does what the others have left undone when they are gone or hang, and
commits. A lane that dies costs its share of the speed, never a row.
"""

import logging
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embed_worker.attempt.feeder import AHEAD
from embed_worker.errors import BadJob

LANE = "EMBED_LANE"
"""Of a lane's process: `index/count:folder`; the folder has a subfolder a job."""
ENGINES = "EMBED_ENGINES"
"""How many engines a node runs; default: one a GPU, one on a node without."""
log = logging.getLogger(__name__)

NVIDIA = Path("/proc/driver/nvidia/gpus")
STUCK_SECONDS = 1200.0
"""Without a new checkpoint of anybody's: the first lane, with nothing else to do, then no longer waits for the others.
One that was merely slow goes on beside it, by the commit protocol."""
LOOK_SECONDS = 15.0
GONE = "gone."
"""Begins the name of a lane's word that it does no more of a job."""


@dataclass(frozen=True)
class Lane:
    """One engine's share of a partition. `folder` is of this job and this node."""

    index: int = 0
    count: int = 1
    folder: Path | None = None

    @property
    def commits(self) -> bool:
        return self.index == 0

    @property
    def ahead(self) -> int:
        """Checkpoints that may be prepared before the engine wants them: what is claimed early, no other can take."""
        return AHEAD if self.count == 1 else 1

    @property
    def facts(self) -> dict[str, Any]:
        return {"lane": f"{self.index + 1} of {self.count}"} if self.count > 1 else {}

    def turns(
        self, over: Callable[[], bool], committed: Callable[[], set[int]] = set
    ) -> Iterator[Callable[[int], bool]]:
        """Which checkpoints to go through, pass by pass; the caller skips committed ones. `over` ends the waiting."""
        yield self._claim
        if self.count > 1 and self.commits and self._others_are_gone(over, committed):
            yield lambda _: True

    def _claim(self, index: int) -> bool:
        """Whether no other lane has taken the checkpoint: now it is this one's."""
        if self.folder is None:
            return index % self.count == self.index
        try:
            (self.folder / str(index)).symlink_to(str(self.index))  # created and signed in one step
        except FileExistsError:
            return False
        return True

    def _others_are_gone(self, over: Callable[[], bool], committed: Callable[[], set[int]]) -> bool:
        """Waits until every other lane has left word, its own or its keeper's. Or until they hang."""
        done, looked = committed(), time.monotonic()
        moved = looked
        while not over():
            if self.folder is None or len(list(self.folder.glob(f"{GONE}*"))) >= self.count - 1:
                return True
            time.sleep(0.2)
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
        """The lane does no more of the job."""
        if self.folder is not None:
            (self.folder / f"{GONE}{self.index}").touch()

    def free(self) -> None:
        """Gives back what a lane that died has claimed."""
        assert self.folder is not None
        for claim in self.folder.iterdir():
            if claim.is_symlink() and str(claim.readlink()) == str(self.index):
                claim.unlink(missing_ok=True)


SINGLE = Lane()


def lanes_of(jobs: int) -> list[Lane]:
    """This process's lane for each of its jobs."""
    text = os.environ.get(LANE)
    if not text:
        return [SINGLE] * jobs
    place, _, folder = text.partition(":")
    index, count = (int(part) for part in place.split("/"))
    return lanes_in(Path(folder), index, count, jobs)


def lanes_in(folder: Path, index: int, count: int, jobs: int) -> list[Lane]:
    """One lane's place in each of some jobs; the folders are made."""
    found = [Lane(index, count, folder / f"job-{number}") for number in range(jobs)]
    for lane in found:
        assert lane.folder is not None
        lane.folder.mkdir(exist_ok=True)
    return found


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
    if size > len(devices):
        raise BadJob(
            f"embedding.engine spans {size} GPUs (tensor_parallel_size × pipeline_parallel_size), this node has "
            f"{len(devices)}; ask for nodes with {size} (EMBED_SKY_ACCELERATORS), or correct embedding.engine"
        )
    count = len(devices) // size
    if wanted:
        count = min(count, int(wanted))
    return [",".join(devices[i * size : (i + 1) * size]) for i in range(count)]
