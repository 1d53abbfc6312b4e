"""Start processes, prove that they are ours, stop them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from tests.kits.slurm_lab.layout import MARK, Layout


def wait_for(what: str, check: Callable[[], bool], seconds: float, pause: float = 0.1) -> None:
    """Return when `check()` is true; TimeoutError names what did not come."""
    deadline = time.monotonic() + seconds
    while not check():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not so after {seconds:.0f} s")
        time.sleep(pause)


def _stat(pid: int) -> tuple[str, int, int] | None:
    """State, parent and start time of a process."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return fields[0], int(fields[1]), int(fields[19])


def alive(pid: int) -> bool:
    """Is it running (a zombie is not)?"""
    try:
        os.waitpid(pid, os.WNOHANG)  # our own dead child stays a zombie until we ask
    except OSError:
        pass
    stat = _stat(pid)
    return stat is not None and stat[0] not in "ZX"


def cmdline(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


class Services:
    """The lab's long-lived processes; each leaves `run/<name>.json` with its pid and start time."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout

    def start(self, name: str, command: Sequence[str | Path], env: dict[str, str]) -> int:
        with (self.layout.log / f"{name}.out").open("ab") as out:
            process = subprocess.Popen(
                [str(part) for part in command],
                env=env,
                cwd=self.layout.root,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        stat = _stat(process.pid)
        record = {"pid": process.pid, "start": stat[2] if stat else 0}
        (self.layout.run / f"{name}.json").write_text(json.dumps(record))
        return process.pid

    def pid(self, name: str) -> int | None:
        """Pid of the running service, or None. A pid that was given to another process is not it."""
        try:
            record = json.loads((self.layout.run / f"{name}.json").read_text())
        except (OSError, ValueError):
            return None
        stat = _stat(record["pid"])
        return record["pid"] if alive(record["pid"]) and stat and stat[2] == record["start"] else None

    def stop(self, name: str, seconds: float = 10) -> None:
        pid = self.pid(name)
        if pid is not None:
            stop_pids([pid], seconds)
        (self.layout.run / f"{name}.json").unlink(missing_ok=True)

    def tail(self, lines: int = 40) -> str:
        """The last lines of every log in the lab."""
        files = [*self.layout.log.glob("*"), *self.layout.home.glob("sky_logs/**/*.log")]
        files += [*self.layout.home.glob(".sky/**/*.log")]
        texts = []
        for file in sorted({file for file in files if file.is_file()}):
            text = file.read_text(errors="replace").splitlines()[-lines:]
            if text:
                texts.append("\n".join([f"==> {file}", *text]))
        return "\n\n".join(texts)


def start_times(pids: Iterable[int]) -> dict[int, int]:
    """Pid with start time: the two together name a process for good."""
    return {pid: stat[2] for pid in pids if (stat := _stat(pid))}


def stop_pids(pids: Iterable[int], seconds: float) -> None:
    """SIGTERM, wait, SIGKILL for those that stay."""
    left = [pid for pid in pids if pid > 1 and alive(pid)]
    for sign, patience in ((signal.SIGTERM, seconds), (signal.SIGKILL, 5.0)):
        for pid in left:
            try:
                os.kill(pid, sign)
            except ProcessLookupError:
                pass
        deadline = time.monotonic() + patience
        while (left := [pid for pid in left if alive(pid)]) and time.monotonic() < deadline:
            time.sleep(0.05)


def owned(layout: Layout, server_side: bool = False) -> list[int]:
    """Pids of all living processes of this lab, or of its API server and controllers, whoever started it.

    Proof is one of: our mark in the environment; for programs that overwrite their environment with a title,
    stdout in our log or home folder (SkyPilot's executors) or an ssh client that works in our folder; a parent
    that is ours. The caller and its parents never count.
    """
    mark = (f"PYTHONPATH={layout.hook}" if server_side else f"{MARK}={layout.root}").encode()
    outputs = (f"{layout.log}/api.out" if server_side else f"{layout.log}/", f"{layout.home}/")
    stats = _all_stats()
    ours = family({pid for pid in stats if _marked(pid, mark) or _titled(pid, layout, outputs)})
    pid = os.getpid()
    while pid > 1:
        ours.discard(pid)
        pid = stats[pid][1] if pid in stats else 0
    return sorted(pid for pid in ours if alive(pid))


def _all_stats() -> dict[int, tuple[str, int, int]]:
    pids = [int(folder.name) for folder in Path("/proc").glob("[0-9]*")]
    return {pid: stat for pid in pids if (stat := _stat(pid))}


def family(heads: set[int], without: str = "\0") -> set[int]:
    """The processes and all below them, except those whose command line has `without`, and all below those."""
    stats, ours = _all_stats(), set(heads)
    new = set(ours)
    while new:
        new = {pid for pid, (_, parent, _) in stats.items() if parent in new and pid not in ours}
        new = {pid for pid in new if without not in cmdline(pid)}
        ours |= new
    return ours


def _marked(pid: int, mark: bytes) -> bool:
    try:
        return mark in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False


def _titled(pid: int, layout: Layout, outputs: tuple[str, ...]) -> bool:
    try:
        if str(Path(f"/proc/{pid}/fd/1").readlink()).startswith(outputs):
            return True
        return Path(f"/proc/{pid}/cwd").readlink() == layout.root and cmdline(pid).startswith("ssh: ")
    except OSError:
        return False
