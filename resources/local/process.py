"""One worker process on this machine: started, spoken to in JSON lines, read without blocking."""

import os
import queue
import shutil
import signal
import subprocess
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from resources.compute import BackendBroken, tail_of

STOP_SECONDS = 12.0


class WorkerMissing(BackendBroken):
    """The worker's environment is not there."""


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

    def __init__(self, python: str, log: Path, environment: Mapping[str, str] | None = None) -> None:
        executable = check_python(python)
        self.log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        # The child inherits nothing of Dagster's: no PYTHONPATH, no Dagster variables.
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("DAGSTER_", "PYTHON"))}
        with log.open("ab") as sink:
            self._process = subprocess.Popen(
                [executable, "-m", "embed_worker", "--serve"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=sink,
                env={**kept, **(environment or {}), "PYTHONUNBUFFERED": "1"},
                start_new_session=True,  # Ctrl-C reaches Dagster, which decides what to stop
            )
        self._answers: queue.Queue[dict[str, Any]] = queue.Queue()
        self._reader = threading.Thread(target=self._read, name="worker-answers", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def send(self, request: dict[str, Any]) -> None:
        """Raises BrokenPipeError where the process is gone."""
        assert self._process.stdin is not None
        self._process.stdin.write(orjson.dumps(request) + b"\n")
        self._process.stdin.flush()

    def answer(self, timeout: float | None = None) -> dict[str, Any] | None:
        """The next answer, or None where none has come within `timeout` seconds (None: do not wait)."""
        try:
            return self._answers.get(block=timeout is not None, timeout=timeout)
        except queue.Empty:
            return None

    def death(self) -> str | None:
        """How the process ended, or None while it lives."""
        code = self._process.poll()
        if code is None:
            return None
        self._reader.join(1)
        if code < 0:
            name = signal.Signals(-code).name
            hint = " (out of memory?)" if name == "SIGKILL" else ""
            return f"the worker process was killed by {name}{hint}"
        return f"the worker process ended with exit code {code}"

    def tail(self, lines: int) -> str:
        try:
            size = self.log.stat().st_size
            with self.log.open("rb") as file:
                file.seek(max(0, size - 256 * 1024))
                return tail_of(file.read().decode("utf-8", "replace"), lines)
        except OSError as error:
            return f"(no log: {error})"

    def stop(self) -> None:
        """SIGTERM, then SIGKILL where it does not go."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except OSError:
                    pass

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            try:
                self._answers.put(orjson.loads(line))
            except orjson.JSONDecodeError:
                continue  # not ours: the worker keeps stdout to itself
