"""`status`: the monitor's rule of states, by the store's clock; damage hides nothing else."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from embed_assets.checks.proof import Proof
from embed_assets.cli.app import app
from embed_assets.drive.driver import Driver
from embed_assets.drive.events import Failed, Refusal, Unlimited
from embed_assets.monitor.states import State
from embed_assets.upkeep.status import DatasetStatus, pipeline_status
from embed_worker.lake import layout
from embed_worker.lake.errors import BadManifest
from embed_worker.lake.job import EmbedJob
from embed_worker.lake.store import Store
from resources.compute import JobHandle, JobState, JobStatus
from tests.kits.compute.in_process import InProcess
from tests.kits.lake.progress import put_beat
from tests.kits.pipelines import Prepared

HOURS = 3600.0


@pytest.fixture
def prepared(lake: Path, source: Path) -> Prepared:
    """A lake with two of three shards committed."""
    made = Prepared(lake, str(source))
    made.embed(0)
    made.embed(1)
    return made


@pytest.fixture
def cli(prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    path = tmp_path / "p.yaml"
    path.write_text(yaml.safe_dump(prepared.pipeline.model_dump(mode="json")))
    monkeypatch.setenv("EMBED_PIPELINES", str(path))
    monkeypatch.setenv("EMBED_LAKE", prepared.store.root)
    monkeypatch.setenv("COLUMNS", "200")
    return lambda *arguments: CliRunner().invoke(app, list(arguments))


def status(prepared: Prepared) -> DatasetStatus:
    [found] = pipeline_status(prepared.store, prepared.pipeline)
    return found


def states(prepared: Prepared) -> list[State]:
    return list(status(prepared).partitions.values())


def test_what_nobody_has_begun_waits_and_rows_in_hand_are_told(prepared: Prepared) -> None:
    assert states(prepared) == [State.COMMITTED, State.COMMITTED, State.WAITING]
    put_beat(prepared.store, prepared.job(2), rows_done=4)
    found = status(prepared)
    assert found.partitions["d-00002"] is State.RUNNING
    assert (found.rows_in_hand, found.phases) == (4, {"embedding": 1})


@pytest.mark.parametrize("clock", [-2 * HOURS, 0.0, 2 * HOURS])
def test_the_clock_of_a_worker_does_not_count(prepared: Prepared, clock: float) -> None:
    put_beat(prepared.store, prepared.job(2), clock=clock)
    assert states(prepared)[2] is State.RUNNING
    put_beat(prepared.store, prepared.job(2), clock=clock, age=70)
    assert states(prepared)[2] is State.STALE


def test_the_clock_of_a_worker_does_not_count_on_a_bucket(s3_root: str, source: Path) -> None:
    made = Prepared(s3_root, str(source))
    put_beat(made.store, made.job(2), clock=-2 * HOURS)
    assert states(made)[2] is State.RUNNING
    put_beat(made.store, made.job(2), clock=2 * HOURS, phase="stopped", ending="preempted")
    assert states(made)[2] is State.RECOVERING


@pytest.mark.parametrize(
    ("beat", "expected"),
    [
        ({"phase": "stopped", "ending": "preempted"}, State.RECOVERING),
        ({"phase": "stopped", "ending": "failed", "error": "RuntimeError"}, State.RECOVERING),
        ({"phase": "stopped", "ending": "bad_job", "error": "not the pinned weights"}, State.FAILED),
        ({"phase": "committed"}, State.WAITING),  # its folder was removed
    ],
)
def test_an_attempt_that_is_over_does_not_run(prepared: Prepared, beat: dict[str, Any], expected: State) -> None:
    put_beat(prepared.store, prepared.job(2), age=1, **beat)
    found = status(prepared)
    assert found.partitions["d-00002"] is expected
    assert found.reasons == ({"d-00002": beat["error"]} if "error" in beat else {})


class Failing(InProcess):
    """Each job ends at once."""

    def submit(self, name: str, job: Any, url: str) -> JobHandle:
        handle = JobHandle(name, str(len(self._ended)))
        put_beat(Store(job.lake), job, f"a{handle.id}", phase="stopped", ending="failed", error="RuntimeError")
        self._ended[handle] = JobStatus(JobState.FAILED, "CUDA out of memory")
        return handle

    def logs(self, handle: JobHandle, lines: int = 100) -> str:
        return ""


def drive(prepared: Prepared, compute: InProcess, stride: int, **options: Any) -> list[Failed]:
    driver = Driver(
        prepared.resource, compute, [prepared.job(stride)], tell=lambda text, *, warning=False: None,
        prove=lambda job, manifest: Proof(), **options,
    )  # fmt: skip
    return [outcome for outcome in driver.run() if isinstance(outcome, Failed)]


def test_a_partition_whose_attempts_are_over_has_failed_at_once_and_says_why(prepared: Prepared) -> None:
    [failed] = drive(prepared, Failing(), 2, max_attempts=2)
    found = status(prepared)
    assert (failed.attempts, found.partitions["d-00002"]) == (2, State.FAILED)
    assert found.reasons == {"d-00002": "CUDA out of memory"}
    prepared.resource.write_job(prepared.job(2))  # another run launches it
    assert states(prepared)[2] is State.RECOVERING


class NoMoney(Unlimited):
    """A budget that allows nothing."""

    def reserve(self, jobs: Any) -> tuple[list[EmbedJob], Refusal | None]:
        return [], Refusal("budget_usd is $1.00", "budget_usd is $1.00")


def test_what_was_not_launched_says_so_too(prepared: Prepared) -> None:
    drive(prepared, InProcess(), 2, budget=NoMoney())
    assert status(prepared).reasons == {"d-00002": "not launched: budget_usd is $1.00"}
    assert states(prepared)[2] is State.FAILED


# -- damage --------------------------------------------------------------------------------------------------


def spoil(prepared: Prepared, path: str) -> None:
    target = Path(prepared.store.path(path))
    target.write_bytes(target.read_bytes().replace(b"1", b"2"))


def test_a_damaged_shard_hides_no_other(prepared: Prepared, cli: Callable[..., Result]) -> None:
    spoil(prepared, prepared.job(1).shard.manifest_path)
    found = status(prepared)
    assert list(found.partitions.values()) == [State.COMMITTED, State.DAMAGED, State.WAITING]
    assert found.rows_with_vector == prepared.expected(0).rows
    [damage] = found.damages
    assert damage.where == prepared.job(1).shard.manifest_path
    assert "was changed" in damage.what and "materialize embedding_shards of d-00001 again" in damage.what
    shown = cli("status", "--partitions")
    assert shown.exit_code == 1 and "1 committed, 1 waiting, 1 damaged" in shown.output
    assert f"damaged {prepared.job(1).shard.manifest_path}: " in shown.output
    as_json = cli("status", "--json")
    assert as_json.exit_code == 1
    [dataset] = json.loads(as_json.output)
    assert dataset["partitions"]["d-00001"] == "damaged" and dataset["damages"][0]["where"] == damage.where


@pytest.mark.parametrize("asset", ["base", "raw", "strides"])
def test_damage_upstream_names_its_cure_and_the_rest_is_shown(
    prepared: Prepared, cli: Callable[..., Result], asset: str
) -> None:
    paths = {
        "base": layout.raw_base("d", prepared.raw.ingest_id),
        "raw": prepared.raw.path,
        "strides": layout.cut_file(prepared.strides.folder, prepared.raw.snapshot),
    }
    spoil(prepared, paths[asset])
    cure = f"materialize {'stride_partitions' if asset == 'strides' else 'raw_reviews'} of d again"
    [damage] = status(prepared).damages
    assert damage.where == paths[asset] and cure in damage.what
    shown = cli("status")
    assert shown.exit_code == 1 and cure in shown.output
    assert ("2 committed, 1 waiting" in shown.output) == (asset == "raw"), "without pointer and cut nobody knows"
    with pytest.raises(BadManifest, match=cure):
        prepared.resource.base("d", prepared.raw.ingest_id)
        prepared.resource.cut(prepared.raw, prepared.partitioning)


# -- words ---------------------------------------------------------------------------------------------------


def test_nothing_reaches_the_terminal_with_control_characters(prepared: Prepared, cli: Callable[..., Result]) -> None:
    hostile = "\x1b[2Jgone\x07\x9b31m\u202e"
    put_beat(prepared.store, prepared.job(2), phase="stopped", ending="failed", error=hostile)
    (Path(prepared.store.root) / f"jobs/d-00000/{hostile}.json").parent.mkdir(parents=True)
    (Path(prepared.store.root) / f"jobs/d-00000/{hostile}.json").write_text("{}")
    for command in (["status", "--partitions"], ["status", "--json"], ["verify"], ["verify", "--json"], ["gc"]):
        shown = cli(*command).output
        assert not set(shown) & {"\x1b", "\x07", "\x9b", "\u202e"}, command
    assert r"\x1b[2Jgone\x07\x9b31m\u202e" in cli("status", "--partitions").output
    assert r"\x1b[2Jgone" in cli("verify").output


@pytest.mark.parametrize("command", ["status", "gc"])
def test_a_typo_in_the_lake_is_no_empty_lake(
    cli: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, s3_root: str, command: str
) -> None:
    for root, said in (("s3://no-such/lake", "there is no such bucket"), (f"{tmp_path}/no", "there is no such folder")):
        monkeypatch.setenv("EMBED_LAKE", root)
        shown = cli(command)
        assert shown.exit_code == 2 and f"{root}: {said}" in shown.output
    monkeypatch.setenv("EMBED_LAKE", s3_root)  # the bucket is there
    shown = cli(command)
    assert shown.exit_code == 0 and s3_root in shown.output
