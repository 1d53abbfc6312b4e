"""Is this node fit? Asked before anything large is fetched, and once more when the engine is installed.

python3 -m embed_worker.preflight node locks/worker-gpu.txt   driver and disk; any Python 3.8, no library
python  -m embed_worker.preflight lake JOB.json               the lake, with its own small libraries
python  -m embed_worker.preflight gpu                         CUDA, and one tiny kernel
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

DRIVERS = {11: 450, 12: 525, 13: 580}
"""CUDA's major release → the oldest driver that it runs on, as NVIDIA's table of minor version compatibility has it."""
FREE_GB = "EMBED_NODE_FREE_GB"
DEFAULT_FREE_GB = 20.0
"""vLLM with its libraries takes 12, the files they come in 4."""
CUDA = re.compile(r"^cuda-toolkit==(\d+)\.|^nvidia-cuda-runtime==(\d+)\.", re.MULTILINE)
COMPILERS = ("cc", "gcc", "clang")


class Unfit(Exception):
    """One sentence: what is wrong with the node, and the cure."""


def check_driver(lock: Path) -> str:
    """Holds the node's driver against the CUDA that the lock installs."""
    match = CUDA.search(lock.read_text())
    needed = DRIVERS[int(match[1] or match[2])] if match else 0
    cure = (
        "Choose an image with a newer one (EMBED_SKY_IMAGE_ID), another cloud or region (EMBED_SKY_INFRA), or name a "
        "ready environment with EMBED_WORKER_PYTHON"
    )
    asked = [shutil.which("nvidia-smi") or "", "--query-gpu=driver_version", "--format=csv,noheader"]
    if not asked[0]:
        raise Unfit(
            "this node has no GPU driver (nvidia-smi). On a CPU node, point EMBED_WORKER_PYTHON to an environment made "
            "from locks/worker-cpu.txt, torch for the CPU and this folder"
        )
    try:
        done = subprocess.run(asked, capture_output=True, text=True, timeout=60, check=False)
    except subprocess.TimeoutExpired:
        raise Unfit(
            "nvidia-smi does not answer within 60 s: the driver or the GPU is broken; take another node"
        ) from None
    versions = re.findall(r"^(\d+)\.", done.stdout, re.MULTILINE)
    if done.returncode or not versions:
        said = (done.stderr or done.stdout).strip()[:300]
        raise Unfit(f"nvidia-smi fails on this node ({said}): the driver or the GPU is broken; take another node")
    if min(map(int, versions)) < needed:
        raise Unfit(f"the driver is {min(versions)}, {lock.name} installs a CUDA that needs {needed} or newer. {cure}")
    return f"driver {versions[0]}, {len(versions)} GPUs"


def check_disk(folder: Path) -> str:
    needed = float(os.environ.get(FREE_GB) or DEFAULT_FREE_GB)
    free = shutil.disk_usage(folder).free / 1e9
    if free < needed:
        raise Unfit(
            f"{folder} has {free:.0f} GB free, the worker's environment needs {needed:.0f} ({FREE_GB}), the weights "
            "come on top: ask for a larger disk with EMBED_SKY_DISK_SIZE"
        )
    return f"{free:.0f} GB free"


def check_lake(url: str) -> str:
    """A get, a put, a create-only put, a delete: all that a job will ask of the lake. Raises LakeError, too."""
    from embed_worker.lake.job import load_job
    from embed_worker.lake.layout import temporary_name
    from embed_worker.lake.store import Store

    store = Store(load_job(url).lake)  # the get
    path = temporary_name("preflight")
    try:
        if not store.create(path, b"first"):
            raise Unfit(f"{store.root} says that {path} exists, a name that nobody else can have made")
        if store.create(path, b"second") or store.read(path) != b"first":
            raise Unfit(
                f"{store.root} overwrites a file that was to be created only once: its create-only puts are not "
                "honoured, and two workers would spoil each other's work. Which stores do: docs/lake.md"
            )
    finally:
        store.delete(path)
    if store.exists(path):
        raise Unfit(f"{store.root} keeps what is deleted: give this node's role the right to delete")
    return f"{store.root}: get, put, create-only put and delete work"


def check_gpu() -> str:
    """Runs one small kernel on each GPU."""
    import torch

    if not torch.cuda.is_available():
        raise Unfit(
            f"torch {torch.__version__} (CUDA {torch.version.cuda}) finds no usable GPU, though the driver is there: a "
            "broken CUDA library or GPU; take another node or image (EMBED_SKY_IMAGE_ID)"
        )
    names = []
    for index in range(torch.cuda.device_count()):
        try:
            ones = torch.ones(64, 64, device=f"cuda:{index}")
            right = bool((ones @ ones == 64.0).all().item())
        except RuntimeError as error:
            raise Unfit(
                f"GPU {index} runs no kernel ({error}): it is full, sick or too old; take another node"
            ) from error
        if not right:
            raise Unfit(f"GPU {index} multiplies wrongly: it is sick; take another node")
        names.append(torch.cuda.get_device_name(index))
    if not os.environ.get("CC") and not any(map(shutil.which, COMPILERS)):
        raise Unfit("this node has no C compiler, which Triton needs to start a kernel: install gcc in the image")
    return ", ".join(names)


def main(arguments: list[str]) -> int:
    what, given = arguments[0], arguments[1:]
    try:
        if what == "node":
            told = f"{check_driver(Path(given[0]))}, {check_disk(Path.home())}"
        elif what == "lake":
            told = check_lake(given[0])
        else:
            told = check_gpu()
    except Exception as error:
        print(f"preflight {what}: {error if str(error) else type(error).__name__}", file=sys.stderr)
        return 1
    print(f"preflight {what}: {told}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
