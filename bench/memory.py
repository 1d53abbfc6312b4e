"""Memory of a process while it runs, from /proc."""

import contextlib
import statistics
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

MB = 1024  # kB


@dataclass
class Memory:
    """Samples in MB. The peak is the kernel's own high-water mark, not the largest sample."""

    rss: list[float] = field(default_factory=list)
    pss: list[float] = field(default_factory=list)
    private: list[float] = field(default_factory=list)
    peak: float = 0.0
    cpu_seconds: float = 0.0

    def sample(self, pid: int) -> None:
        with contextlib.suppress(OSError, KeyError, IndexError):  # it may end at any moment
            rollup = _fields(Path(f"/proc/{pid}/smaps_rollup"))
            peak = _fields(Path(f"/proc/{pid}/status"))["VmHWM"] / MB
            self.rss.append(rollup["Rss"] / MB)
            self.pss.append(rollup["Pss"] / MB)
            self.private.append((rollup["Private_Clean"] + rollup["Private_Dirty"]) / MB)
            self.peak = max(self.peak, peak)
            ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            self.cpu_seconds = (int(ticks[11]) + int(ticks[12])) / 100

    def summary(self) -> dict[str, float]:
        return {
            "rss_peak_mb": round(self.peak, 1),
            "rss_median_mb": round(statistics.median(self.rss), 1),
            "pss_peak_mb": round(max(self.pss), 1),
            "pss_median_mb": round(statistics.median(self.pss), 1),
            "private_peak_mb": round(max(self.private), 1),
            "cpu_seconds": round(self.cpu_seconds, 1),
        }


def watch(processes: list[subprocess.Popen[bytes]], every: float = 0.5) -> list[Memory]:
    """Samples processes until all have ended."""
    found = [Memory() for _ in processes]
    while None in [process.poll() for process in processes]:
        for process, memory in zip(processes, found, strict=True):
            if process.returncode is None:
                memory.sample(process.pid)
        time.sleep(every)
    return found


def _fields(path: Path) -> dict[str, int]:
    pairs = (line.split(":") for line in path.read_text().splitlines() if line.endswith(" kB"))
    return {name: int(value.split()[0]) for name, value in pairs}


def peak_of_tree(process: subprocess.Popen[bytes], every: float = 0.1) -> float:
    """The largest sum of the PSS of a process and its descendants, in MB, until it ends."""
    peak = 0.0
    while process.poll() is None:
        total = 0
        for pid in _tree(process.pid):
            with contextlib.suppress(OSError, KeyError):
                total += _fields(Path(f"/proc/{pid}/smaps_rollup"))["Pss"]
        peak = max(peak, total / MB)
        time.sleep(every)
    return round(peak, 1)


def _tree(root: int) -> list[int]:
    found = [root]
    for pid in found:
        for task in Path(f"/proc/{pid}/task").glob("*/children"):
            with contextlib.suppress(OSError):
                found += map(int, task.read_text().split())
    return found
