"""The real vLLM, killed in mid-run: the vectors are those of an undisturbed run."""

import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from embed_worker.exits import ExitCode
from embed_worker.lake.job import EmbedJob
from tests.kits import ROOT
from tests.kits.attempt.jobs import leftovers, make_job, manifest_of, rejects_of, shard_table, write_job
from tests.kits.chaos.figures import record
from tests.kits.chaos.worker_storm import REJECTED, some_texts
from tests.kits.vllm import MINILM, PYTHON

pytestmark = [pytest.mark.vllm, pytest.mark.xdist_group("vllm"), pytest.mark.timeout(900)]

KILLS = ["checkpoint.data:2", "checkpoint.record:3", "manifest.ready", "manifest.created"]
COSINE = 0.9999


def embed(lake: Path, kills: Sequence[str]) -> tuple[EmbedJob, pa.Table]:
    """A job whose worker is killed at these failpoints, one after another, and then let be."""
    python = PYTHON if PYTHON.is_absolute() else ROOT / PYTHON
    if not python.exists() or not (MINILM / "model.safetensors").exists():
        pytest.fail(f"needs {python} and {MINILM}: run `make setup`")
    model = {"model": "sentence-transformers/all-MiniLM-L6-v2", "location": str(MINILM), "dtype": "float32"}
    job = make_job(str(lake), some_texts(48), checkpoint_rows=6, **model)
    url = write_job(job)
    for armed in [*kills, ""]:
        environment = {**os.environ, "EMBED_FAILPOINT": armed, "PYTHONPATH": str(ROOT / "sky")}
        done = subprocess.run(
            [str(python), "-m", "embed_worker", url], env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == (-signal.SIGKILL if armed else ExitCode.DONE), f"{armed}\n{done.stderr[-6000:]}"
    folder = lake.parent / f"{lake.name}-fetched"
    folder.mkdir()
    return job, shard_table(job, folder)


def test_vectors_after_kills_are_those_of_an_undisturbed_run(tmp_path: Path) -> None:
    _, whole = embed(tmp_path / "whole", [])
    job, found = embed(tmp_path / "killed", KILLS)
    columns = [name for name in whole.column_names if name != "embedding"]
    more = found.num_rows - whole.num_rows
    record(kills=len(KILLS), lost=max(0, -more), doubled=max(0, more))
    assert found.select(columns).equals(whole.select(columns))
    vectors = [np.stack(table.column("embedding").to_numpy()) for table in (whole, found)]
    norms = np.prod([np.linalg.norm(one, axis=1) for one in vectors], axis=0)
    assert float(np.min(np.sum(vectors[0] * vectors[1], axis=1) / norms)) >= COSINE
    assert rejects_of(job, tmp_path) == REJECTED
    assert leftovers(job) == []
    assert len(manifest_of(job).attempts) == len(KILLS), "one of them had committed when it was killed"
