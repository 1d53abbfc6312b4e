"""What machine this is, for the manifest."""

import os
import platform
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from embed_worker.attempt.place import place
from embed_worker.lake.attempts import Attempt, Hardware
from embed_worker.lake.manifests import now

SKYPILOT = {"SKYPILOT_TASK_ID": "skypilot_task_id", "SKYPILOT_MANAGED_JOB_ID": "skypilot_job_id"}


def hardware(engines: int = 1) -> Hardware:
    """This node. `engines`: how many share it with GPUs, or cores, of their own; this process sees its share."""
    model = platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    except OSError:
        pass
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    whole = os.getppid() if engines > 1 else 0  # of the process that dealt the cores out
    return Hardware(
        cpu=model,
        cores=len(os.sched_getaffinity(whole)),
        memory_gb=round(memory / 2**30, 1),
        gpus=gpus() * engines,
        engines=engines,
    )


def gpus() -> list[str]:
    """Names of this process's GPUs; asks torch only where it is loaded already, since importing it takes seconds."""
    import sys

    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return []
    return [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]


def this_attempt(name: str, facts: Mapping[str, Any]) -> Attempt:
    """Who makes the attempt that begins now, and where. `facts`: what else is known of it."""
    found: dict[str, Any] = {"host": socket.gethostname(), "pid": os.getpid()}
    found |= {key: os.environ[variable] for variable, key in SKYPILOT.items() if variable in os.environ}
    return Attempt.model_validate({"attempt": name, "started_at": now(), **found, **place(), **facts})
