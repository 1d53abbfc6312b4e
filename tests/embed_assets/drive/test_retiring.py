"""Shards of another input and garbage manifests are retired and made anew."""

from pathlib import Path

import pytest

from embed_assets.checks.proof import Proof
from embed_assets.drive.events import Committed, Failed
from embed_worker.lake.job import EmbedJob
from embed_worker.lake.manifests import ShardManifest
from resources.compute import JobHandle, JobState, JobStatus
from tests.kits.drive.bench import DriverBench, commit


@pytest.mark.parametrize("committed_anew", [False, True])
def test_a_shard_that_another_run_repairs_meanwhile_is_left_to_it(tmp_path: Path, committed_anew: bool) -> None:
    bench = DriverBench(tmp_path)
    (made,) = bench.jobs
    commit(bench.lake, made, created_at="damaged")
    bench.states("commit")

    def prove(judged: EmbedJob, manifest: ShardManifest) -> Proof:
        if manifest.created_at != "damaged":
            return Proof()
        assert bench.lake.retire(made.shard, manifest)
        if committed_anew:
            commit(bench.lake, made)
        return Proof("part-00000.parquet is missing")

    bench.prove = prove
    (outcome,) = bench.run()
    assert isinstance(outcome, Committed)
    assert outcome.adopted == committed_anew
    assert len(list(tmp_path.rglob("_retired-*.json"))) == 1


def test_a_shard_of_another_input_is_retired_and_made_anew(tmp_path: Path) -> None:
    bench = DriverBench(tmp_path)
    commit(bench.lake, bench.jobs[0], digest="ff")
    bench.states("commit")
    outcomes = bench.run()
    (outcome,) = outcomes
    assert isinstance(outcome, Committed)
    assert (outcome.adopted, outcome.manifest.input.digest) == (False, "00")
    assert "was made from input ff" in bench.told
    assert list(tmp_path.rglob("_retired-*.json"))


def test_a_manifest_that_is_garbage_is_retired_and_made_anew(tmp_path: Path) -> None:
    bench = DriverBench(tmp_path)
    bench.lake.store.create(bench.jobs[0].shard.manifest_path, b"garbage")
    bench.states("commit")
    outcomes = bench.run()
    assert [(type(o), o.attempts) for o in outcomes] == [(Committed, 1)]


def test_a_job_that_writes_a_garbage_manifest_fails(tmp_path: Path) -> None:
    bench = DriverBench(tmp_path)

    def advance(handle: JobHandle, status: JobStatus) -> None:
        bench.lake.store.create(bench.jobs[0].shard.manifest_path, b"garbage")
        status.state = JobState.SUCCEEDED

    bench.compute.advance = advance
    (outcome,) = bench.run()
    assert isinstance(outcome, Failed)
    assert "_manifest.json is not JSON" in outcome.error
