"""kill -9 in mid-run, then a second attempt: how soon it makes new rows, and how many were done twice."""

import itertools
import random
import statistics
import subprocess
import time
from pathlib import Path
from typing import Any

from bench.worker.contestants import Machine, job_url, manifest_of
from bench.worker.inputs import SEED, Texts, make_job, model_spec
from embed_assets.checks.shard import SHARD_CHECKS, ShardView
from embed_worker.lake.job import EmbedJob
from embed_worker.lake.store import Store

TICK = 0.02
DEADLINE = 240.0


def resume(machine: Machine, texts: Texts, checkpoint_rows: int) -> dict[str, Any]:
    """Rows done twice are estimated: what the engine made, at its rate so far, between the last commit and the kill."""
    folder = machine.fresh("resume")
    job = make_job(folder, texts.texts, model_spec(machine.model), checkpoint_rows)
    total = -(-job.input.rows // checkpoint_rows)
    process = _start(machine, job, folder / "log-1")
    try:
        commits = _watch(process, job, set(), until=max(2, total // 3))
        interval = statistics.median(b - a for a, b in itertools.pairwise(commits))
        time.sleep(interval * random.Random(SEED).uniform(0.2, 0.8))
    finally:
        process.kill()
        process.wait()
    killed = time.time()
    known = _committed(job)
    last = max(path.stat().st_mtime for path in known.values())
    begun = time.monotonic()
    process = _start(machine, job, folder / "log-2")
    try:
        _watch(process, job, set(known), until=1)
        first_new = time.monotonic() - begun
        code = process.wait(timeout=DEADLINE)
    finally:
        process.kill()
        process.wait()
    if code:
        raise RuntimeError(f"the second attempt ended with {code}:\n{(folder / 'log-2').read_text()[-3000:]}")
    manifest = manifest_of(job)
    view = ShardView(Store(job.lake), job.shard, manifest, job.input.rows_digest)
    exact = SHARD_CHECKS["rows_exact"](view)
    assert exact.passed, exact.description
    return {
        "rows": job.input.rows,
        "checkpoint_rows": checkpoint_rows,
        "checkpoints_kept": len(known),
        "checkpoints": total,
        "restart_to_first_new_rows_seconds": first_new,
        "load_model_seconds": manifest.seconds.get("load_model"),
        "rows_done_twice": round(min((killed - last) / interval, 1.0 + (total - len(known))) * checkpoint_rows),
        "rows_twice_in_the_lake": 0,  # the check above would have failed
    }


def _start(machine: Machine, job: EmbedJob, log: Path) -> subprocess.Popen[bytes]:
    command = [str(machine.python), "-m", "embed_worker", job_url(job)]
    with log.open("wb") as sink:
        return subprocess.Popen(command, env=machine.environment(), stdout=sink, stderr=sink)


def _committed(job: EmbedJob) -> dict[int, Path]:
    folder = Path(Store(job.lake).path(f"{job.shard.folder}/checkpoints/rows-{job.checkpoint_rows:07d}"))
    return {int(path.stem): path for path in folder.glob("[0-9]*.json")}


def _watch(process: subprocess.Popen[bytes], job: EmbedJob, known: set[int], until: int) -> list[float]:
    """Times of the next `until` commits."""
    found: dict[int, float] = {}
    deadline = time.monotonic() + DEADLINE
    while len(found) < until:
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"the worker ended, or stood still, after {len(found)} new checkpoints of {until}")
        for index in _committed(job).keys() - known - found.keys():
            found[index] = time.monotonic()
        time.sleep(TICK)
    return sorted(found.values())
