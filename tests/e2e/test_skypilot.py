"""The whole system on real SkyPilot managed jobs and a real Slurm: nothing is launched twice, no row lost or doubled.

Three runs go side by side, so that the minutes of launching are paid once:
- a backfill of four partitions; one loses its machine in mid-run, and the API server crashes after it has come back;
- a run that is killed -9 while its jobs are being launched, then gets a SIGTERM, and is re-executed each time;
- a run of one partition that is terminated in the UI's way.
"""

import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from embed_assets.upkeep.verify import verify_lake
from embed_worker.lake.store import Store
from tests.kits import processes
from tests.kits.e2e.checkpoints import Checkpoints
from tests.kits.e2e.dagster_api import DONE, Dagster, Stopwatch
from tests.kits.e2e.demo_copy import WORKER_PYTHON, processes_of
from tests.kits.e2e.lab_deployment import BACKFILL, KILLED, PIPELINE, PREEMPTED, TERMINATED, LabDeployment
from tests.kits.e2e.slurm_figures import keep
from tests.kits.slurm_lab import SlurmLab

pytestmark = [pytest.mark.slurm, pytest.mark.e2e, pytest.mark.timeout(3000)]
SHARDS, STRIDES, RAW = (["slurm", name] for name in ("embedding_shards", "stride_partitions", "raw_reviews"))
CHECKS = 6
"""Of each partition of embedding_shards, at least."""


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


def wait_until(condition: Callable[[], object], what: str, seconds: float = 1200) -> None:
    processes.wait_until(condition, what, seconds)


def job_is(deployment: LabDeployment, partition: str, **fields: object) -> Callable[[], bool]:
    """Asked a few times a minute: each question starts processes of the API server's, on the two cores of the jobs."""

    def ask() -> bool:
        time.sleep(5)
        [job] = deployment.jobs(partition)
        return all(job[name] == value for name, value in fields.items())

    return ask


def finished(dagster: Dagster, run: str) -> Callable[[], bool]:
    return lambda: dagster.status(run) in DONE


def said(dagster: Dagster, run: str, text: str, since: int = 0) -> Callable[[], bool]:
    """In a message after the first `since`."""
    return lambda: any(text in message for message in dagster.messages(run)[since:])


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
        # A worker is at work before SkyPilot has noted it; what is lost until then it counts as a launch tried again.
        wait_until(job_is(deployment, PREEMPTED, status="RUNNING"), f"SkyPilot sees {PREEMPTED} run")
        before = watch.of(PREEMPTED)
        [job] = deployment.jobs(PREEMPTED)
        assert not list(deployment.lake.glob("embedding_shards/reviews/*/*/*/*/_manifest.json")), "too fast to preempt"
        lab.preempt(int(job["job_id"]))
        ticks("preempted")

        wait_until(lambda: watch.of(TERMINATED), f"{TERMINATED} is at work")
        dagster.terminate(terminated)
        wait_until(finished(dagster, terminated), "the terminated run ends")
        assert dagster.status(terminated) == "CANCELED"
        wait_until(job_is(deployment, TERMINATED, status="CANCELLED"), "its job is cancelled")
        ticks("terminated")

        wait_until(lambda: len(set(watch.of(PREEMPTED).values())) == 2, f"{PREEMPTED} is at work again")
        # The controllers live in the API server: a crash before they have noted the recovery loses the count.
        wait_until(job_is(deployment, PREEMPTED, recovery_count=1), "SkyPilot has counted the recovery")
        ticks("recovered")
        assert lab.outside_connections() == []
        [backfill_run] = dagster.runs(backfill)
        crashed = len(dagster.messages(backfill_run))
        lab.api_down(kill=True)
        wait_until(said(dagster, backfill_run, "does not answer", crashed), "the run says that the API server is away")
        lab.api_up()
        ticks("api_server_restarted")
        wait_until(said(dagster, backfill_run, "answers again", crashed), "the run goes on")

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
    keep(ticks.seconds, lab, metadata, queue, report, began_load)


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
