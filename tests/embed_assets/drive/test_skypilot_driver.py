"""Driver and SkyPilot backend together, on a fake server: recovery, outage, a killed run and its successor."""

from pathlib import Path
from typing import Any

import pytest

from embed_assets.checks.proof import Proof
from embed_assets.drive.driver import Driver
from embed_assets.drive.events import Committed, Failed, Outcome
from embed_worker.lake.job import EmbedJob
from resources.lake import Lake
from tests.kits.compute.fake_sky import SkyBench
from tests.kits.drive.bench import AtOnce, commit, job_of


class ScriptedRun:
    """Two partitions; the test decides what happens at each poll."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.lake = Lake(root=str(folder))
        self.jobs: list[EmbedJob] = [job_of(self.lake, stride) for stride in range(2)]
        self.bench = SkyBench(**settings)
        self.turn = 0
        self.told: list[str] = []

    def tell(self, text: str, *, warning: bool = False) -> None:
        self.told.append(text)

    def run(self, script: dict[int, Any]) -> list[Outcome]:
        def sleep(seconds: float) -> None:
            self.bench.threads.settle()
            self.bench.clock.sleep(seconds)
            self.turn += 1
            assert self.turn < 100, "the driver does not come to an end"
            script.get(self.turn, lambda: None)()

        driver = Driver(
            self.lake, self.bench.compute, self.jobs,
            prove=lambda job, manifest: Proof(), tell=self.tell, provers=AtOnce(), clock=self.bench.clock, sleep=sleep,
        )  # fmt: skip
        return list(driver.run())

    def row(self, stride: int) -> dict[str, Any]:
        return next(row for row in self.bench.sky.rows if row["job_name"] == f"embed-{self.jobs[stride].name}")

    def finish(self) -> None:
        for stride in range(2):
            commit(self.lake, self.jobs[stride])
            self.row(stride)["status"] = "SUCCEEDED"


def start(scripted: ScriptedRun) -> None:
    for row in scripted.bench.sky.rows:
        scripted.bench.sky.run(row)


def test_a_recovery_is_told_once_and_ends_in_the_metadata(tmp_path: Path) -> None:
    scripted = ScriptedRun(tmp_path)
    recover = lambda: scripted.bench.sky.run(scripted.row(0), recoveries=1, region="eu-west-1")  # noqa: E731
    outcomes = scripted.run({1: lambda: start(scripted), 3: recover, 6: scripted.finish})
    assert sum("recovery 1" in text for text in scripted.told) == 1
    done = {outcome.job.shard.key: outcome for outcome in outcomes if isinstance(outcome, Committed)}
    assert len(done) == 2 and len(scripted.bench.sky.rows) == 2
    status = done["d-00000"].status
    assert status is not None
    facts = status.facts.told()
    assert facts["recoveries"] == 1 and facts["region"] == "eu-west-1" and facts["cost_dollars"] > 0
    assert facts["pool"] == "none" and facts["accelerators"] == "L4:1"
    assert facts["dashboard"].endswith("/jobs/1") and "unknown" not in facts


def test_an_outage_is_said_once_and_nothing_is_relaunched(tmp_path: Path) -> None:
    scripted = ScriptedRun(tmp_path)

    def down(value: bool) -> Any:
        return lambda: setattr(scripted.bench.sky, "down", value)

    outcomes = scripted.run({1: lambda: start(scripted), 2: down(True), 8: down(False), 10: scripted.finish})
    told = scripted.told
    assert sum("does not answer" in text for text in told) == 1
    assert sum("answers again" in text for text in told) == 1
    assert len(scripted.bench.sky.rows) == 2 and not any(isinstance(outcome, Failed) for outcome in outcomes)


@pytest.mark.parametrize("turn", [1, 2, 4])
def test_a_killed_run_is_followed_by_one_that_attaches(tmp_path: Path, turn: int) -> None:
    class Killed(BaseException):
        pass

    def kill() -> None:
        raise Killed

    scripted = ScriptedRun(tmp_path)
    with pytest.raises(Killed):
        scripted.run({turn: kill})
    scripted.bench.compute = scripted.bench.new_process()
    outcomes = scripted.run({turn + 2: lambda: start(scripted), turn + 4: scripted.finish})
    assert "attached to 2 jobs that were already running" in scripted.told
    assert len(scripted.bench.sky.rows) == 2
    assert sum(isinstance(outcome, Committed) for outcome in outcomes) == 2


@pytest.mark.parametrize(
    ("code", "attempts", "jobs"),
    [
        ("Job exited with exit code 65", 1, 2),
        ("Job exited with exit code 69", 3, 4),
        ("Job exited with exit code 1", 3, 4),
    ],
)
def test_a_bad_job_is_not_tried_again_and_a_failed_one_is(tmp_path: Path, code: str, attempts: int, jobs: int) -> None:
    scripted = ScriptedRun(tmp_path)

    def fail() -> None:
        for row in scripted.bench.sky.rows:
            if row["job_name"].endswith(scripted.jobs[0].name) and row["status"] != "FAILED":
                row |= {"status": "FAILED", "failure_reason": code}
        scripted.row(1)["status"] = "SUCCEEDED"

    commit_other = lambda: (start(scripted), commit(scripted.lake, scripted.jobs[1]))  # noqa: E731
    outcomes = scripted.run({1: commit_other, **dict.fromkeys(range(2, 90), fail)})
    (failed,) = [outcome for outcome in outcomes if isinstance(outcome, Failed)]
    assert failed.attempts == attempts and "sky jobs logs" in failed.error and "last words" in failed.log
    assert len(scripted.bench.sky.rows) == jobs
