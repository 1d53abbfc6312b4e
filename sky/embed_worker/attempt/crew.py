"""Keeps a node's lanes going: a process an engine. One that dies is started once more."""

import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from embed_worker.attempt.lanes import ENGINES, LANE, Lane, lanes_in
from embed_worker.exits import ExitCode

log = logging.getLogger(__name__)

GONE_SECONDS = 15.0
"""More than the worker's grace after a signal."""
LOOK_SECONDS = 0.2
PORTS, PORTS_A_LANE = 29500, 50
"""vLLM's engines look for free ports when they start, all at once: each has a range of its own."""
FINAL = (ExitCode.DONE, ExitCode.BAD_JOB, ExitCode.UNAVAILABLE, ExitCode.MACHINE, ExitCode.PREEMPTED)
"""Ends that another start on this machine would not better."""


@dataclass
class _Member:
    lanes: list[Lane]
    command: list[str]
    environment: dict[str, str]
    cores: list[int] | None
    process: "subprocess.Popen[bytes] | None" = None
    starts: int = 0

    def start(self) -> None:
        self.starts += 1
        self.process = subprocess.Popen(self.command, env=self.environment, stdin=subprocess.DEVNULL)
        if self.cores is not None:
            os.sched_setaffinity(self.process.pid, self.cores)

    def end(self, told_to_stop: bool) -> int | None:
        """Its exit code once it is over for good. One that died is started once more."""
        assert self.process is not None
        if (code := self.process.poll()) is None:
            return None
        if code in FINAL or told_to_stop or self.starts > 1:
            for lane in self.lanes:
                lane.close()
            return code
        log.warning("engine %d ended with %d; it is started once more", self.lanes[0].index + 1, code)
        for lane in self.lanes:
            lane.free()
        self.start()
        return None


def run_lanes(groups: Sequence[str], jobs: Sequence[str]) -> int:
    """Runs the jobs with an engine a group; returns the first lane's exit code, which stands for all."""
    with tempfile.TemporaryDirectory(prefix="embed-lanes-") as folder:
        code = _run([_member(Path(folder), groups, index, jobs) for index in range(len(groups))])
    return code if code >= 0 else 128 - code


def _member(folder: Path, groups: Sequence[str], index: int, jobs: Sequence[str]) -> _Member:
    count, devices, cores = len(groups), groups[index], sorted(os.sched_getaffinity(0))
    environment = {**os.environ, LANE: f"{index}/{count}:{folder}", ENGINES: "1"}
    environment.setdefault("VLLM_PORT", str(PORTS + PORTS_A_LANE * index))
    share = cores[index::count] or cores
    if devices:
        environment["CUDA_VISIBLE_DEVICES"] = devices
    else:
        environment["OMP_NUM_THREADS"] = str(len(share))
    command = [sys.executable, "-m", "embed_worker", *jobs]
    return _Member(lanes_in(folder, index, count, len(jobs)), command, environment, None if devices else share)


def _run(crew: Sequence[_Member]) -> int:
    told_to_stop = False

    def forward(number: int, _: object) -> None:
        nonlocal told_to_stop
        told_to_stop = True
        for member in crew:
            if member.process is not None and member.process.poll() is None:
                member.process.send_signal(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, forward)
    for member in crew:
        member.start()
    first, left = crew[0], list(crew[1:])
    while (code := first.end(told_to_stop)) is None:
        left = [member for member in left if member.end(told_to_stop) is None]
        time.sleep(LOOK_SECONDS)
    for member in left:
        if member.process is not None and member.process.poll() is None:
            member.process.terminate()  # the first has committed, or nothing will be
    for member in left:
        assert member.process is not None
        try:
            member.process.wait(GONE_SECONDS)
        except subprocess.TimeoutExpired:
            member.process.kill()  # it hangs where no signal is heard
            member.process.wait()
    return code
