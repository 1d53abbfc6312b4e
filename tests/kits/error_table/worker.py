"""Worker processes on this machine that die, hang, or are not there."""

import sys
from collections.abc import Iterator

from tests.kits import ROOT
from tests.kits.compute.worker_python import shell_python, worker_python
from tests.kits.error_table.registry import provokes
from tests.kits.error_table.scene import Scene
from tests.kits.graph_bench import SHARDS

NO_MEMORY = """
    import resource, tokenizers
    from tokenizers import models
    text = "x" * (64 << 20)
    free = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize() + (8 << 20)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (free, free))
    tokenizers.Tokenizer(models.BPE()).encode(text)
"""


def python(scene: Scene, body: str = "", first: str = "") -> str:
    """The worker's Python: a few lines of shell, then the real worker, where `body` runs before each job."""
    start = f"PYTHONPATH={ROOT}:{ROOT / 'sky'} exec"
    path = scene.folder / "python"
    if not body:
        return shell_python(path, f'{first}\n{start} {sys.executable} "$@"')
    real = worker_python(scene.folder / "python-with-body", body)
    return shell_python(path, f"{first}\n{start} {real}")


@provokes("the worker process was killed by SIGKILL (out of memory?)")
def killed(scene: Scene) -> Iterator[str]:
    """As the kernel does it."""
    assert scene.ready
    scene.bench.python = python(scene, "os.kill(os.getpid(), 9)")
    yield scene.told(SHARDS)


@provokes("the worker process was killed by SIGABRT (out of memory)", "memory allocation of")
def no_memory(scene: Scene) -> Iterator[str]:
    """A library in Rust that gets none."""
    assert scene.ready
    scene.bench.python = python(scene, NO_MEMORY)
    yield scene.told(SHARDS)


@provokes("the worker process ended with exit code")
def gone(scene: Scene) -> Iterator[str]:
    assert scene.ready
    scene.bench.python = python(scene, "os._exit(1)")
    yield scene.told(SHARDS)


@provokes("Traceback (most recent call last)")
def broken(scene: Scene) -> Iterator[str]:
    """An error that nobody foresaw."""
    assert scene.ready
    scene.bench.python = python(scene, "raise RuntimeError('CUDA error: out of memory')")
    yield scene.told(SHARDS)


@provokes("did not begin to work within …; the end of its log says where it hung")
def hung_at_its_start(scene: Scene) -> Iterator[str]:
    assert scene.ready
    scene.bench.python, scene.bench.local = python(scene, first="sleep 60"), {"start_seconds": 0.3}
    yield scene.told(SHARDS)


@provokes("loaded no model within …; the end of its log says where it hung")
def hung_at_its_model(scene: Scene) -> Iterator[str]:
    assert scene.ready
    scene.bench.python = python(scene, "worker.load_model = lambda spec: time.sleep(60)")
    scene.bench.local = {"load_seconds": 0.3}
    yield scene.told(SHARDS)


@provokes("no worker environment at")
def no_environment(scene: Scene) -> Iterator[str]:
    assert scene.ready
    scene.bench.python = "/nowhere/bin/python"
    yield scene.told(SHARDS)
    scene.bench.python = None
    scene.made(SHARDS)
