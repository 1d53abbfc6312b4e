"""What grows with a partition's rows: the worker's memory, and the time that verify and the checks take."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from bench.memory import watch
from bench.worker.contestants import PROGRAMS, WORKER_PATH, Machine, job_url, manifest_of
from bench.worker.inputs import Texts, hash_spec, make_job
from embed_worker.lake.spec import EmbeddingSpec

ROOT = Path(__file__).parents[2]
TIMES = 20


def growth(machine: Machine, texts: list[str], spec: EmbeddingSpec, small: int, checkpoint_rows: int) -> dict[str, Any]:
    """Peak RSS of the worker over `small` rows and over 20 times as many; the texts are taken in turn."""
    peaks = {}
    for rows in (small, small * TIMES):
        folder = machine.fresh("growth")
        # A number before the text keeps the rows distinct where there are fewer texts than rows.
        taken = [texts[i % len(texts)] if i < len(texts) else f"{i} {texts[i % len(texts)]}" for i in range(rows)]
        job = make_job(folder, taken, spec, checkpoint_rows)
        peaks[rows] = _peak(machine, ["-m", "embed_worker", job_url(job)], folder / "log")
        assert manifest_of(job).rows_embedded == rows
    return {**_peaks(peaks), "checkpoint_rows": checkpoint_rows}


def bare_growth(machine: Machine, texts: Texts, small: int) -> dict[str, Any]:
    """The same of vLLM alone, which keeps its inputs and its vectors: how much of the worker's growth is vLLM's."""
    peaks = {}
    for rows in (small, small * TIMES):
        folder = machine.fresh("bare-growth")
        folder.mkdir()
        source = texts.some(rows).save(folder / "input.json")
        arguments = [str(PROGRAMS / "bare.py"), str(machine.model), str(source), str(folder / "out")]
        peaks[rows] = _peak(machine, arguments, folder / "log")
    return _peaks(peaks)


def _peak(machine: Machine, arguments: list[str], log: Path) -> float:
    """RSS in MB of the worker's Python. Raises RuntimeError with the end of the log where it fails."""
    with log.open("wb") as sink:
        command = [str(machine.python), *arguments]
        process = subprocess.Popen(command, env=machine.environment(), stdout=sink, stderr=sink)
        memory = watch([process], every=0.1)[0]
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}:\n{log.read_text()[-3000:]}")
    return memory.peak


def _peaks(peaks: dict[int, float]) -> dict[str, Any]:
    before, after = peaks.values()
    return {"rows": list(peaks), "rss_peak_mb": [round(before, 1), round(after, 1)], "ratio": after / before}


def checks(machine: Machine, texts: list[str], rows: int) -> dict[str, Any]:
    """Seconds of `embed-assets verify` and of each check, over shards of 384 float32 made without a model."""
    folder = machine.fresh("checks")
    taken = [f"{i} {texts[i % len(texts)]}" for i in range(rows)]
    job = make_job(folder, taken, hash_spec(), 4096)
    out = folder / "out.json"
    environment = {**machine.environment(), "PYTHONPATH": f"{WORKER_PATH}:{ROOT}"}
    command = [sys.executable, str(PROGRAMS / "checks.py"), job_url(job), str(out)]
    with (folder / "log").open("wb") as sink:
        code = subprocess.run(command, env=environment, stdout=sink, stderr=sink, check=False).returncode
    if code:
        raise RuntimeError(f"checks.py ended with {code}:\n{(folder / 'log').read_text()[-3000:]}")
    found = json.loads(out.read_text())
    million = 1e6 / rows
    return {
        "rows": rows,
        "dimension": found["dimension"],
        "lake_bytes": found["bytes"],
        "verify_seconds_per_million": found["verify"] * million,
        "checks_seconds_per_million": sum(found["checks"].values()) * million,
        "each_check_seconds_per_million": {name: seconds * million for name, seconds in found["checks"].items()},
    }
