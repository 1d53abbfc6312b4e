"""One worker process on this machine: started, spoken to in JSON lines, read without blocking."""

import contextlib
import os
import queue
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from resources.compute import BackendBroken, tail_of

STOP_SECONDS = 12.0
KILL_SECONDS = 2.0
"""For a group of processes to go after SIGKILL. Where nobody reaps orphans, they stay as zombies."""
OUT_OF_MEMORY = "memory allocation of "
"""What a Rust library writes before it aborts."""


class WorkerMissing(BackendBroken):
    """The worker's environment is not there."""


@dataclass(frozen=True)
class Limits:
    """Seconds after which a worker counts as hanging; at other times its heartbeat in the lake tells how far it is."""

    start: float = 300.0
    """From the process's start, or from a request, to the begin of the work: imports, and the job file read."""
    load: float = 3600.0
    """To fetch, prove and load a model."""


LIMITS = Limits()


def check_python(python: str) -> str:
    """The absolute path of the worker's Python. Raises WorkerMissing with the cure where there is none."""
    executable = shutil.which(python)
    if executable is None:
        raise WorkerMissing(
            f"no worker environment at {python}. `make setup` builds it, or point EMBED_WORKER_PYTHON at a "
            "Python that has embed_worker and vLLM"
        )
    return str(Path(executable).absolute())  # not resolved: a venv's python is a link


class WorkerProcess:
    """`python -m embed_worker --serve` in the worker's own environment."""

    def __init__(
        self,
        python: str,
        log: Path,
        limits: Limits = LIMITS,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        executable = check_python(python)
        self.log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        # The child inherits nothing of Dagster's: no PYTHONPATH, no Dagster variables.
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("DAGSTER_", "PYTHON"))}
        own = {"PYTHONUNBUFFERED": "1", "PYTHONFAULTHANDLER": "1"}  # SIGABRT writes into the log where it hangs
        with log.open("ab") as sink:
            self._process = subprocess.Popen(
                [executable, "-m", "embed_worker", "--serve"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=sink,
                env={**kept, **(environment or {}), **own},
                start_new_session=True,  # Ctrl-C reaches Dagster, which decides what to stop
            )
        self._limits = limits
        self._sign, self._since = "", time.monotonic()
        self._death: str | None = None
        self._group_gone = False
        self._answers: queue.Queue[dict[str, Any]] = queue.Queue()
        self._reader = threading.Thread(target=self._read, name="worker-answers", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def send(self, request: dict[str, Any]) -> None:
        """Raises BrokenPipeError where the process is gone."""
        assert self._process.stdin is not None
        if self._sign:
            self._sign, self._since = "ready", time.monotonic()
        self._process.stdin.write(orjson.dumps(request) + b"\n")
        self._process.stdin.flush()

    def answer(self, timeout: float | None = None) -> dict[str, Any] | None:
        """The next answer, or None where none has come within `timeout` seconds (None: do not wait)."""
        try:
            return self._answers.get(block=timeout is not None, timeout=timeout)
        except queue.Empty:
            return None

    def death(self) -> str | None:
        """How the process ended, or None while it lives. One that hangs is ended here."""
        if self._death is None and (code := self._process.poll()) is not None:
            self._reader.join(1)
            self._kill_group()
            self._death = self._told(code)
        elif self._death is None and (fault := self._overdue()) is not None:
            self._abort()
            self._death = fault
        return self._death

    def tail(self, lines: int) -> str:
        try:
            size = self.log.stat().st_size
            with self.log.open("rb") as file:
                file.seek(max(0, size - 256 * 1024))
                return tail_of(file.read().decode("utf-8", "replace"), lines)
        except OSError as error:
            return f"(no log: {error})"

    def stop(self) -> None:
        """SIGTERM, then SIGKILL where it does not go, and to all that it started: an engine would keep its GPU."""
        if self._process.poll() is None:
            self._process.terminate()
            self._wait(STOP_SECONDS)
        self._kill_group()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()

    def _told(self, code: int) -> str:
        if code >= 0:
            return f"the worker process ended with exit code {code}"
        name = signal.Signals(-code).name
        starved = name == "SIGABRT" and OUT_OF_MEMORY in self.tail(100)
        hint = " (out of memory)" if starved else " (out of memory?)" if name == "SIGKILL" else ""
        return f"the worker process was killed by {name}{hint}"

    def _overdue(self) -> str | None:
        passed = time.monotonic() - self._since
        if self._sign == "loading" and passed > self._limits.load:
            what, limit, setting = "loaded no model", self._limits.load, "EMBED_LOCAL_LOAD_SECONDS"
        elif self._sign in ("", "ready") and passed > self._limits.start:
            what, limit, setting = "did not begin to work", self._limits.start, "EMBED_LOCAL_START_SECONDS"
        else:
            return None
        return (
            f"the worker process {what} within {limit:g} s, so it was killed; the end of its log says where it hung. "
            f"Where it is merely slow (disk, memory, a large model), raise {setting}"
        )

    def _abort(self) -> None:
        """Ends it with Python's word of where each thread was, and without a core of its gigabytes."""
        if sys.platform == "linux":
            with contextlib.suppress(OSError):
                resource.prlimit(self.pid, resource.RLIMIT_CORE, (0, 0))
        self._process.send_signal(signal.SIGABRT)
        self._wait(KILL_SECONDS)
        self._kill_group()

    def _wait(self, seconds: float) -> None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)

    def _kill_group(self) -> None:
        """Once: the group's number may be somebody else's later."""
        until = time.monotonic() + KILL_SECONDS
        while not self._group_gone:
            try:
                os.killpg(self.pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                self._group_gone = True
            else:
                self._process.poll()
                self._group_gone = time.monotonic() > until
                time.sleep(0.02)
        self._process.wait()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            try:
                said = orjson.loads(line)
            except orjson.JSONDecodeError:
                continue  # not ours: the worker keeps stdout to itself
            self._sign, self._since = said.get("sign", "idle"), time.monotonic()
            if "sign" not in said:
                self._answers.put(said)
