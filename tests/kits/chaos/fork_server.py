"""A process that has everything imported and forks others from itself: a Dagster run starts in milliseconds.

Its children are nobody else's: they outlive whoever asked for them. `python -m tests.kits.chaos.fork_server SOCKET MODULE…`.
"""

import contextlib
import fcntl
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.kits import ROOT


@dataclass(frozen=True)
class Child:
    """A forked process, known by its folder: whoever has the folder's name can ask."""

    folder: Path

    @property
    def alive(self) -> bool:
        """A process that ends in whatever way lets go of its lock."""
        try:
            with (self.folder / "lock").open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except FileNotFoundError:
            return False
        return False

    @property
    def code(self) -> int | None:
        """The exit code of one that ended by itself; None where it was killed."""
        path = self.folder / "code"
        return int(path.read_text()) if path.exists() else None

    @property
    def log(self) -> str:
        path = self.folder / "log"
        return path.read_text("utf-8", "replace") if path.exists() else ""

    def send(self, number: signal.Signals) -> None:
        if self.alive:
            with contextlib.suppress(ProcessLookupError, FileNotFoundError, ValueError):
                os.kill(int((self.folder / "pid").read_text()), number)

    def wait(self, seconds: float) -> bool:
        """Whether it has ended by then."""
        end = time.monotonic() + seconds
        while self.alive:
            if time.monotonic() > end:
                return False
            time.sleep(0.01)
        return True


def ask(address: str, **request: Any) -> Any:
    """Requests are served one after another: an answer proves that all earlier ones were."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(address)
        connection.sendall(json.dumps(request).encode() + b"\n")
        return json.loads(connection.makefile().readline())


def spawn(address: str, folder: Path, call: str, environment: dict[str, str], *arguments: Any) -> Child:
    """Forks a process that calls `module:function(*arguments)` and exits with what it returns."""
    folder.mkdir(parents=True, exist_ok=True)
    ask(address, folder=str(folder), call=call, environment=environment, arguments=arguments)
    return Child(folder)


@contextlib.contextmanager
def fork_server(*modules: str) -> Iterator[str]:
    """Its address. All its children end with it."""
    with tempfile.TemporaryDirectory(prefix="forks-") as folder:
        address, log = f"{folder}/socket", Path(folder, "log")
        command = [sys.executable, "-m", "tests.kits.chaos.fork_server", address, *modules]
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("EMBED_", "DAGSTER_"))}
        paths = os.pathsep.join([str(ROOT), str(ROOT / "sky")])
        with log.open("wb") as sink:
            process = subprocess.Popen(
                command, cwd=ROOT, env={**kept, "PYTHONPATH": paths}, stdin=subprocess.PIPE, stdout=sink, stderr=sink
            )
        try:
            end = time.monotonic() + 120
            while not Path(address).exists():
                assert process.poll() is None and time.monotonic() < end, log.read_text()
                time.sleep(0.05)
            yield address
        finally:
            assert process.stdin is not None
            process.stdin.close()
            process.wait(30)


def _serve(address: str, modules: list[str]) -> None:
    for module in modules:
        importlib.import_module(module)
    server = socket.socket(socket.AF_UNIX)
    server.bind(f"{address}.new")
    server.listen(64)
    os.rename(f"{address}.new", address)  # noqa: PTH104
    children: set[int] = set()
    while True:
        ready, _, _ = select.select([server, sys.stdin], [], [], 0.5)
        for pid in list(children):  # not reaped before: its number is not given to another
            if os.waitpid(pid, os.WNOHANG) != (0, 0):
                children.remove(pid)
        if sys.stdin in ready:  # closed: whoever started this is gone
            for pid in children:
                os.kill(pid, signal.SIGKILL)
            return
        if server in ready:
            connection, _ = server.accept()
            # The asker may be killed while it asks, or before it has its answer.
            with contextlib.suppress(OSError, ValueError), connection, connection.makefile("rw") as stream:
                if request := json.loads(stream.readline()):
                    children.add(_fork(request, server))
                stream.write("null\n")


def _fork(request: dict[str, Any], server: socket.socket) -> int:
    folder = Path(request["folder"])
    lock = (folder / "lock").open("wb")
    fcntl.flock(lock, fcntl.LOCK_EX)  # of the open file, so the child has it too, and alone once it is closed here
    if pid := os.fork():
        (folder / "pid").write_text(str(pid))
        lock.close()
        return pid
    code = 99
    try:
        os.setsid()
        server.close()
        log = os.open(folder / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        null = os.open(os.devnull, os.O_RDONLY)
        for source, target in ((null, 0), (log, 1), (log, 2)):
            os.dup2(source, target)
        os.environ.update(request["environment"])
        module, _, function = request["call"].partition(":")
        code = getattr(importlib.import_module(module), function)(*request["arguments"])
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        (folder / "code.new").write_text(str(code))
        (folder / "code.new").rename(folder / "code")
        os._exit(code)


if __name__ == "__main__":
    _serve(sys.argv[1], sys.argv[2:])
