"""A driver finds the jobs that are there already; their names say the work."""

import re
from pathlib import Path
from typing import Any

from embed_assets.drive.events import Committed
from embed_worker.lake.job import EmbedJob
from embed_worker.lake.spec import Prompts
from resources.compute import JobState
from resources.lake import Lake
from tests.kits import pipelines as kit
from tests.kits.drive.bench import DriverBench, job_of


def test_a_lost_answer_does_not_start_a_second_job(tmp_path: Path) -> None:
    bench = DriverBench(tmp_path)
    bench.states("running", "running", "running", "commit")
    answers = iter(["lost after"])
    bench.compute.on_submit = lambda: next(answers, "yes")
    outcomes = bench.run()
    assert [type(o) for o in outcomes] == [Committed]
    assert bench.compute.submitted[bench.jobs[0].name] == 1
    assert bench.told.count("does not answer") == 1
    assert bench.told.count("answers again") == 1


def test_live_jobs_are_attached_to(tmp_path: Path) -> None:
    bench = DriverBench(tmp_path, 3)
    bench.compute.start(bench.jobs[1].name, JobState.RUNNING)
    bench.states("running", "commit", "succeeded")
    outcomes = bench.run()
    assert len(outcomes) == 3
    assert bench.compute.submitted == {bench.jobs[0].name: 1, bench.jobs[2].name: 1}
    assert "attached to 1 jobs" in bench.told


def test_a_backend_that_ends_with_the_driver_has_nothing_to_attach_to(tmp_path: Path) -> None:
    bench = DriverBench(tmp_path, 2, outlives=False)
    bench.states("commit")
    bench.run()
    assert bench.compute.calls["find"] == 0


def changed(made: EmbedJob, update: dict[str, Any]) -> EmbedJob:
    if spec := update.get("spec"):
        update = {**update, "shard": made.shard.model_copy(update={"spec_id": spec.spec_id})}
    return made.model_copy(update=update)


def test_a_live_job_is_attached_to_whatever_changed_that_changes_no_shard(tmp_path: Path) -> None:
    bench = DriverBench(tmp_path)
    (first,) = bench.jobs
    bench.compute.start(first.name, JobState.RUNNING)
    spec = kit.spec(engine={"max_num_seqs": 128}, prompts=Prompts(query="query: "), location=str(tmp_path))
    bench.jobs = [changed(first, {"spec": spec, "checkpoint_rows": 7, "heartbeat_seconds": 1.0})]
    assert bench.jobs[0].path != first.path
    bench.states("running", "commit")
    outcomes = bench.run()
    assert bench.compute.submitted == {} and isinstance(outcomes[0], Committed)


def test_names_say_the_work(tmp_path: Path) -> None:
    lake = Lake(root=str(tmp_path))
    same, other = job_of(lake, 1), job_of(lake, 1, digest="0c")
    assert same.name == job_of(lake, 1).name != other.name
    elsewhere = job_of(Lake(root=str(tmp_path / "other")), 1)
    spec = {"spec": kit.spec(revision="another")}
    assert len({p.name for p in (same, other, elsewhere, changed(same, spec), job_of(lake, 2))}) == 5
    assert re.fullmatch(r"p-d-00001-[0-9a-f]{10}", same.name)
    odd = changed(same, {"shard": same.shard.model_copy(update={"dataset": "odd_name.x"})})
    assert re.fullmatch(r"[a-z0-9-]+", odd.name)
