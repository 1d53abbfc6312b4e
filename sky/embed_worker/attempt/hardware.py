"""What machine this is, for the manifest."""

import os
import platform
import socket
from pathlib import Path
from typing import Any

from embed_worker.attempt.place import place

SKYPILOT = {"SKYPILOT_TASK_ID": "skypilot_task_id", "SKYPILOT_MANAGED_JOB_ID": "skypilot_job_id"}


def hardware() -> dict[str, Any]:
    """Processor, cores and memory; GPUs are added by `gpus` once torch is loaded."""
    model = platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    except OSError:
        pass
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {"cpu": model, "cores": len(os.sched_getaffinity(0)), "memory_gb": round(memory / 2**30, 1), "gpus": gpus()}


def gpus() -> list[str]:
    """Names of the GPUs; asks torch only where it is loaded already, since importing it takes seconds."""
    import sys

    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return []
    return [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]


def attempt_facts() -> dict[str, Any]:
    """Who makes this attempt, and where."""
    facts: dict[str, Any] = {"host": socket.gethostname(), "pid": os.getpid()}
    facts |= {key: os.environ[name] for name, key in SKYPILOT.items() if name in os.environ}
    return facts | place()
