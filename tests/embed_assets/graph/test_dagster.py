"""The assets in Dagster: one event a partition, checks beside it, adoption, staleness, failures, cancellation."""

import contextlib
import hashlib
import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import dagster as dg
import orjson
import pyarrow.parquet as pq
import pytest

from embed_assets.checks.rows import ROW_CHECKS
from embed_assets.checks.shard import SHARD_CHECKS
from embed_assets.graph.common import current_snapshot
from embed_assets.graph.dagster_events import PartitionRun
from embed_assets.index.table import open_table
from embed_worker.engine.hash import byte_tokenizer
from embed_worker.lake.errors import StoreAway, StoreUnavailable
from embed_worker.lake.integrity import restore_space
from embed_worker.lake.job import EmbedJob
from embed_worker.lake.seal import sealed
from resources.compute import JobHandle, JobState, JobStatus
from resources.lake import Lake
from tests.kits import platform as kit
from tests.kits.house import CHECK, DIGEST, INDEX, RAW, SHARDS, STRIDES, House

pytestmark = pytest.mark.slow


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield House(tmp_path, instance)


@pytest.fixture
def lasting(tmp_path: Path) -> Iterator[House]:
    """With an instance on disk, which other threads may read and write."""
    (tmp_path / "home").mkdir()
    quiet = {
        "compute_logs": {"module": "dagster._core.storage.noop_compute_log_manager", "class": "NoOpComputeLogManager"}
    }
    with dg.DagsterInstance.local_temp(str(tmp_path / "home"), overrides=quiet) as instance:
        yield House(tmp_path, instance)


# -- the whole path --------------------------------------------------------------------------------


def test_the_whole_path(house: House) -> None:
    house.python = sys.executable
    raw = house.run(RAW, "a", "b")
    assert {name: data["dagster/row_count"] for name, data in house.made(raw).items()} == {"a": 20, "b": 20}
    assert house.checks(raw) == {name: dict.fromkeys(ROW_CHECKS, True) for name in "ab"}
    strides = house.run(STRIDES, house.partitions()[0], house.partitions()[-1])
    rows = {key: data["dagster/row_count"] for key, data in house.made(strides).items()}
    assert rows == {"a-00000": 7, "a-00001": 7, "a-00002": 6, "b-00000": 10, "b-00001": 10}
    assert house.checks(strides) == {key: dict.fromkeys(ROW_CHECKS, True) for key in house.partitions()}
    shards = house.embed()
    made = house.made(shards)
    assert {key: data["dagster/row_count"] for key, data in made.items()} == rows
    assert house.checks(shards) == {key: dict.fromkeys(SHARD_CHECKS, True) for key in house.partitions()}
    assert {data["job_worker_pid"] for data in made.values()} == {made["a-00000"]["job_worker_pid"]}, "loaded once"
    assert house.instance.get_materialized_partitions(SHARDS) == set(house.partitions())
    for name in "ab":
        index = house.run(INDEX, name)
        assert house.made(index)[name]["dagster/row_count"] == 20
        assert house.checks(index) == {name: {"complete": True}}
    table = open_table(Lake(str(house.lake)), kit.spec().spec_id, "a")
    found = table.to_arrow().to_pylist()
    assert {row["text"] for row in found} == {record["text"] for record in kit.texts(20)}
    assert "_dagster" not in json.dumps([str(path) for path in house.lake.rglob("*")])


def test_each_partition_has_the_figures_of_its_own(house: House) -> None:
    house.prepare()
    made = house.made(house.embed())
    for key, data in made.items():
        manifest = json.loads(Path(data["manifest"]).read_text())
        assert data["dagster/row_count"] == manifest["rows_embedded"]
        assert (data["tokens"], data["windows"]) == (manifest["tokens"], manifest["windows"])
        assert data["input_digest"] == manifest["input"]["digest"]
        assert (data["attempts"], data["jobs_in_this_run"], data["adopted"]) == (1, 1, False)
        assert (data["dimension"], data["dtype"], data["spec_id"]) == (32, "float32", kit.spec().spec_id)
        assert Path(data["dagster/uri"]) == Path(data["manifest"]).parent
        assert [c.name for c in data["dagster/column_schema"].columns] == pq.read_schema(
            next(Path(data["dagster/uri"]).glob("part-*.parquet"))
        ).names
        lineage = data["dagster/column_lineage"].deps_by_column["embedding"]
        assert [(dep.asset_key, dep.column_name) for dep in lineage] == [(STRIDES, "text")]
        assert manifest["partition"] == key


@pytest.mark.e2e
def test_checks_stand_on_the_materialization_of_their_partition(house: House) -> None:
    house.prepare()
    run = house.embed()
    for event in house.events(run, CHECK):
        evaluation = event.asset_check_evaluation_data
        target = evaluation.target_materialization_data
        assert target.storage_id == house.latest(SHARDS, evaluation.partition).storage_id
        assert target.run_id == run.run_id


@pytest.mark.e2e
def test_a_failing_check_is_seen_on_its_partition_and_fails_no_run(house: House) -> None:
    house.prepare()
    house.embed()
    space = next(house.lake.glob("embedding_spaces/*.json"))
    value = orjson.loads(space.read_bytes())
    del value["digest"]
    value["canaries"]["vectors"].reverse()  # sound in itself, and of another kind than the shards
    space.write_bytes(sealed(f"embedding_spaces/{space.name}", value))
    run = house.run(SHARDS, "a-00001")
    assert run.success
    assert house.checks(run)["a-00001"] == {
        **dict.fromkeys(SHARD_CHECKS, True),
        "same_embedding_space": False,
    }
    assert "a-00001: check same_embedding_space failed" in house.log(run)


# -- versions and staleness ------------------------------------------------------------------------


def test_the_version_tags_are_those_that_dagster_writes_itself(house: House, tmp_path: Path) -> None:
    """The same graph as plain assets, whose tags Dagster makes, in an instance of its own."""
    house.prepare()
    house.embed()
    definitions = house.definitions().resolve_asset_graph()
    by_dataset = definitions.get(RAW).partitions_def
    by_stride = definitions.get(STRIDES).partitions_def
    mapping = dg.StaticPartitionMapping({name: house.partitions(name) for name in "ab"})

    @dg.asset(key=RAW, partitions_def=by_dataset, code_version="r")
    def raw() -> dg.MaterializeResult:  # type: ignore[type-arg]
        return dg.MaterializeResult(data_version=dg.DataVersion("v1"))

    @dg.asset(
        key=STRIDES, partitions_def=by_stride, code_version="s", deps=[dg.AssetDep(RAW, partition_mapping=mapping)]
    )
    def strides() -> dg.MaterializeResult:  # type: ignore[type-arg]
        return dg.MaterializeResult(data_version=dg.DataVersion("v2"))

    @dg.asset(key=SHARDS, partitions_def=by_stride, code_version="e", deps=[STRIDES])
    def shards() -> dg.MaterializeResult:  # type: ignore[type-arg]
        return dg.MaterializeResult(data_version=dg.DataVersion("v3"))

    (tmp_path / "toy").mkdir()
    with dg.DagsterInstance.ephemeral() as instance:
        for asset, partition in [(raw, "a"), (strides, "a-00001"), (shards, "a-00001")]:
            assert dg.materialize(
                [raw, strides, shards], selection=[asset], partition_key=partition, instance=instance
            ).success
        toy = House(tmp_path / "toy", instance)
        for key, partition in [(RAW, "a"), (STRIDES, "a-00001"), (SHARDS, "a-00001")]:
            ours, theirs = house.tags(key, partition), toy.tags(key, partition)
            assert ours.keys() == theirs.keys()
            for which, tags in ((house, ours), (toy, theirs)):
                for parent, at in ((RAW, "a"), (STRIDES, "a-00001")):
                    name = parent.to_user_string()
                    if f"dagster/input_data_version/{name}" in tags:
                        version = which.tags(parent, at)["dagster/data_version"]
                        read = hashlib.sha256(version.encode()).hexdigest()
                        assert tags[f"dagster/input_data_version/{name}"] == read
                        assert tags[f"dagster/input_event_pointer/{name}"] == str(which.latest(parent, at).storage_id)
                assert tags["dagster/data_version_is_user_provided"] == "true"
            graph = house.definitions().resolve_asset_graph()
            assert ours["dagster/code_version"] == graph.get(key).code_version


@pytest.mark.e2e
def test_fresh_after_the_whole_path(house: House) -> None:
    house.all()
    for key in (RAW, INDEX):
        assert house.stale(key, ["a", "b"]) == {}
    for key in (STRIDES, SHARDS):
        assert house.stale(key, house.partitions()) == {}


def test_a_changed_source_makes_only_its_own_dataset_stale(house: House) -> None:
    house.all()
    kit.write_jsonl(house.sources["a"], kit.texts(21))
    assert house.run(RAW, "a", "b").success
    assert set(house.stale(STRIDES, house.partitions())) == set(house.partitions("a"))
    assert house.stale(SHARDS, house.partitions()) == {}, "of partitions Dagster tells the next step only"
    assert house.run(STRIDES, house.partitions()[0], house.partitions()[-1]).success
    assert house.stale(STRIDES, house.partitions()) == {}
    assert set(house.stale(SHARDS, house.partitions())) == set(house.partitions("a"))
    run = house.embed()
    adopted = {key: data["adopted"] for key, data in house.made(run).items()}
    assert adopted == {**dict.fromkeys(house.partitions("a"), False), **dict.fromkeys(house.partitions("b"), True)}
    assert house.stale(SHARDS, house.partitions()) == {}
    assert set(house.stale(INDEX, ["a", "b"])) == {"a"}
    index = house.run(INDEX, "a")
    assert house.made(index)["a"] | {"dagster/row_count": 21, "adopted": False} == house.made(index)["a"]
    assert house.stale(INDEX, ["a", "b"]) == {}


@pytest.mark.e2e
def test_a_new_snapshot_asks_for_all_shards_of_its_dataset(house: House) -> None:
    """Its shards are a set of their own: a stride whose rows did not change is due too, or the set stays incomplete."""
    house.all()
    kit.write_jsonl(house.sources["b"], kit.texts(21, 100))
    house.prepare()
    assert set(house.stale(SHARDS, house.partitions())) == set(house.partitions("b"))
    assert "not committed: b-00000, b-00001" in house.failure(house.run(INDEX, "b")).description


@pytest.mark.e2e
def test_another_model_makes_every_shard_stale_by_its_code_version(house: House) -> None:
    house.all()
    old = set(house.shard_files("_manifest.json"))
    house.embedding = {"pooling": "cls"}
    stale = house.stale(SHARDS, house.partitions())
    assert set(stale) == set(house.partitions())
    assert all("code version" in reason for reason in stale.values()), stale
    assert house.stale(STRIDES, house.partitions()) == {}
    assert house.embed().success
    assert house.stale(SHARDS, house.partitions()) == {}
    assert old < set(house.shard_files("_manifest.json")), "the earlier vectors are still there, beside the new"


@pytest.mark.e2e
def test_another_template_makes_the_raw_data_stale_by_its_code_version(house: House) -> None:
    house.all()
    house.ingest = {"text": "{key}: {text}"}
    assert all("code version" in reason for reason in house.stale(RAW, ["a", "b"]).values())
    assert set(house.stale(RAW, ["a", "b"])) == {"a", "b"}


# -- adoption and repair ---------------------------------------------------------------------------


def test_what_is_committed_is_adopted_with_its_checks_and_nothing_is_embedded(house: House) -> None:
    house.all()
    files = {path: path.stat().st_mtime_ns for path in house.lake.rglob("*.*") if path.is_file()}
    versions = {key: house.tags(SHARDS, key)["dagster/data_version"] for key in house.partitions()}
    house.python = "/nowhere/python"  # any attempt to embed would fail
    house.prepare()
    run = house.embed()
    assert run.success
    assert {key: data["adopted"] for key, data in house.made(run).items()} == dict.fromkeys(house.partitions(), True)
    assert house.checks(run) == {key: dict.fromkeys(SHARD_CHECKS, True) for key in house.partitions()}
    assert {key: house.tags(SHARDS, key)["dagster/data_version"] for key in house.partitions()} == versions
    assert house.log(run).count("committed already, adopted") == 1  # a line, not one a partition
    index = house.run(INDEX, "a")
    assert house.made(index)["a"]["adopted"] is True
    after = {path: path.stat().st_mtime_ns for path in house.lake.rglob("*.*") if path.is_file()}
    assert after == files, "a no-op wrote to the lake"
    assert house.stale(SHARDS, house.partitions()) == {}


@pytest.mark.parametrize(
    "damage", ["changed", pytest.param("gone", marks=pytest.mark.e2e), pytest.param("manifest", marks=pytest.mark.e2e)]
)
def test_a_damaged_shard_is_repaired_and_no_other_touched(house: House, damage: str) -> None:
    house.prepare()
    house.embed()
    whole = {path: path.read_bytes() for path in house.shard_files("part-*.parquet")}
    version = house.tags(SHARDS, "a-00001")["dagster/data_version"]
    victim = next(path for path in whole if path.parent.name == "00001" and "/a/" in str(path))
    if damage == "manifest":
        (victim.parent / "_manifest.json").write_text('{"format": 1}')
    else:
        victim.unlink()
        if damage == "changed":
            victim.write_bytes(whole[victim][:-9] + b"corrupted")
    run = house.embed()
    assert run.success
    adopted = {key: data["adopted"] for key, data in house.made(run).items()}
    assert adopted == {**dict.fromkeys(house.partitions(), True), "a-00001": False}
    assert house.checks(run)["a-00001"] == dict.fromkeys(SHARD_CHECKS, True)
    found = {path: path.read_bytes() for path in house.shard_files("part-*.parquet")}
    assert {path.parent: data for path, data in found.items()} == {path.parent: data for path, data in whole.items()}
    assert len(found) == len(whole), "the damaged file is swept; the new one has a name of its own"
    assert house.tags(SHARDS, "a-00001")["dagster/data_version"] == version
    assert list(victim.parent.glob("_retired-*.json")), "the manifest is retired, not lost"


@pytest.mark.parametrize("which", ["raw_reviews", "stride_partitions"])
@pytest.mark.parametrize("damage", ["part", "manifest"])
def test_damaged_rows_are_written_anew(house: House, which: str, damage: str) -> None:
    house.prepare()
    key, partition = (RAW, "a") if which == "raw_reviews" else (STRIDES, "a-00001")
    version = house.tags(key, partition)["dagster/data_version"]
    path = sorted((house.lake / which / "a").rglob("part-*.parquet" if damage == "part" else "_manifest.json"))[0]
    whole = path.read_bytes()
    path.unlink()
    path.write_bytes(b"damage" if damage == "part" else b"{}")
    run = house.run(key, partition)
    assert run.success, house.log(run)
    assert house.made(run)[partition]["adopted"] is False
    assert all(house.checks(run)[partition].values())
    assert house.tags(key, partition)["dagster/data_version"] == version
    if damage == "part":  # nothing is deleted under its fixed name: gc does it
        (anew,) = path.parent.glob("part-00000.*.parquet")
        assert anew.read_bytes() == whole


def test_a_changed_stride_file_fails_before_any_embedding(house: House) -> None:
    house.prepare()
    path = house.lake.glob("stride_partitions/a/*/00001/part-00000.parquet").__next__()
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data[:-1] + b"?")
    run = house.embed()
    failure = house.failure(run)
    assert set(house.made(run)) == set(house.partitions()) - {"a-00001"}
    assert "Re-materialize stride_partitions" in failure.description
    assert "attempts: 1" in failure.description
    assert not [p for p in house.shard_files("checkpoints/*/*.parquet") if p.parts[-4] == "00001" and "/a/" in str(p)]
    house.prepare()
    assert house.embed().success


# -- failures --------------------------------------------------------------------------------------


def test_a_poisoned_partition_fails_after_its_attempts_and_the_others_stay_green(house: House, tmp_path: Path) -> None:
    house.prepare()
    die = "if job.shard.key == 'b-00000': print('out of luck', file=sys.stderr, flush=True); os.kill(os.getpid(), 9)"
    house.python = kit.worker_python(tmp_path / "python", die)
    run = house.embed()
    failure = house.failure(run)
    good = set(house.partitions()) - {"b-00000"}
    assert set(house.made(run)) == good
    assert set(house.checks(run)) == good
    assert house.instance.get_materialized_partitions(SHARDS) == good
    (record,) = failure.metadata["failed_partitions"].records
    assert record.data["partition"] == "b-00000"
    assert "killed by SIGKILL" in record.data["error"]
    assert "attempts: 2" in record.data["error"]
    assert "out of luck" in failure.metadata["last_log_lines"].value
    assert "out of luck" in house.log(run)
    house.python = None
    again = house.embed()
    assert again.success
    assert {key: data["adopted"] for key, data in house.made(again).items()} == {
        **dict.fromkeys(good, True),
        "b-00000": False,
    }


def test_a_job_that_no_attempt_can_make_is_refused_at_once(house: House) -> None:
    house.embedding = {"model": "some/model", "location": str(house.folder / "no-model-here")}
    house.prepare()
    run = house.embed()
    failure = house.failure(run)
    assert house.made(run) == {}
    errors = [record.data["error"] for record in failure.metadata["failed_partitions"].records]
    assert len(errors) == 5
    assert all("no model at" in error and "attempts: 1" in error for error in errors)
    assert "no model at" in failure.metadata["last_log_lines"].value


def test_weights_that_are_not_the_pinned_ones_are_refused(house: House) -> None:
    model = house.folder / "model"
    model.mkdir()
    for name in ("config.json", "model.safetensors"):
        (model / name).write_text("{}")
    byte_tokenizer().save(str(model / "tokenizer.json"))
    house.embedding = {"model": "some/model", "location": str(model), "sha256": {"model.safetensors": "0" * 64}}
    house.prepare()
    failure = house.failure(house.run(SHARDS, "a-00000"))
    assert "not the pinned weights" in failure.description


@pytest.mark.parametrize("python", ["/nowhere/bin/python"])
def test_a_missing_worker_environment_is_said_clearly(house: House, python: str) -> None:
    house.prepare()
    house.python = python
    failure = house.failure(house.embed())
    assert "EMBED_WORKER_PYTHON" in failure.description
    assert "make setup" in failure.description


def test_one_bad_dataset_does_not_stop_the_other(house: House) -> None:
    house.sources["a"].write_text("no json\n")
    run = house.run(RAW, "a", "b")
    assert "all 1 records are unusable (malformed JSON)" in house.failure(run).description
    assert set(house.made(run)) == {"b"}
    strides = house.run(STRIDES, house.partitions()[0], house.partitions()[-1])
    assert "raw_reviews of a is not in" in house.failure(strides).description
    assert set(house.made(strides)) == set(house.partitions("b"))
    shards = house.embed()
    assert set(house.made(shards)) == set(house.partitions("b"))
    assert {r.data["partition"] for r in house.failure(shards).metadata["failed_partitions"].records} == set(
        house.partitions("a")
    )


def test_a_lake_that_cannot_be_written_is_said_clearly(house: House) -> None:
    house.lake.write_text("a file where the lake should be")
    assert "EMBED_LAKE" in house.failure(house.run(RAW, "a", "b")).description


def test_a_lake_that_is_away_while_a_partition_is_recorded_is_waited_for(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.prepare()
    answers = iter([StoreUnavailable("s3://lake: the store cannot be reached")])

    def restore(*arguments: Any) -> str | None:
        if (error := next(answers, None)) is not None:
            raise error
        return restore_space(*arguments)

    monkeypatch.setattr("embed_assets.graph.embedding_shards.restore_space", restore)
    run = house.embed()
    assert run.success, house.log(run)
    assert set(house.made(run)) == set(house.partitions())
    assert house.log(run).count("the lake does not answer") == house.log(run).count("the lake answers again") == 1


def test_a_lake_that_is_away_when_a_run_begins_is_waited_for(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.prepare()
    answers = iter([StoreAway("s3://lake: the store cannot be reached")])

    def snapshot(*arguments: Any) -> Any:
        if (error := next(answers, None)) is not None:
            raise error
        return current_snapshot(*arguments)

    monkeypatch.setattr("embed_assets.graph.shard_jobs.current_snapshot", snapshot)
    run = house.embed()
    assert run.success, house.log(run)
    assert set(house.made(run)) == set(house.partitions())
    assert house.log(run).count("the lake does not answer") == 1


def test_a_lake_that_stays_away_when_a_run_begins_fails_its_partitions_clearly(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.prepare()
    asked = []

    def snapshot(lake: Any, dataset: Any) -> Any:
        asked.append(dataset.name)
        raise StoreAway("s3://lake: the store cannot be reached")

    monkeypatch.setattr("embed_assets.graph.shard_jobs.current_snapshot", snapshot)
    monkeypatch.setattr("embed_assets.graph.shard_jobs.PATIENCE", 0.0)
    run = house.embed()
    assert "the store cannot be reached" in house.failure(run).description
    assert sorted(asked) == ["a", "b"]  # not once a partition
    assert house.made(run) == {}


def test_a_full_disk_is_said_clearly(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    mounted = house.folder / "small"
    mounted.mkdir()
    if os.geteuid() != 0 or os.system(f"mount -t tmpfs -o size=300k tmpfs {mounted} 2>/dev/null") != 0:  # noqa: S605
        pytest.skip("cannot mount a small disk here")
    try:
        kit.write_jsonl(house.sources["a"], [{"text": os.urandom(800).hex()} for _ in range(2000)])
        house.lake = mounted / "lake"
        run = house.run(RAW, "a", "b")
        assert "no space left" in house.failure(run).description
        assert "a" not in house.made(run)
        assert [path for path in kit.manifests(house.lake) if "/a/" in path] == []
    finally:
        os.system(f"umount {mounted}")  # noqa: S605


# -- cancellation ----------------------------------------------------------------------------------


def hanging(house: House) -> Path:
    """The first job of the worker never ends."""
    pids = house.folder / "pids"
    body = f"open({str(pids)!r}, 'a').write(str(os.getpid()) + chr(10)); {kit.HANG}"
    house.python = kit.worker_python(house.folder / "python", body)
    return pids


@pytest.mark.parametrize("how", [pytest.param("status", marks=pytest.mark.e2e), "interrupt"])
def test_cancelling_a_run_stops_its_workers(lasting: House, how: str) -> None:
    house = lasting
    house.prepare()
    pids = hanging(house)

    def cancel() -> None:
        kit.wait_for(lambda: pids.exists() and pids.read_text().strip())
        (run,) = house.instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED]))
        house.instance.report_run_canceling(run)
        if how == "interrupt":
            os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=cancel)
    thread.start()
    with contextlib.suppress(BaseException):
        house.embed()
    thread.join()
    worker = int(pids.read_text().split()[0])
    assert not kit.alive(worker)
    (run,) = house.instance.get_runs(limit=1)
    assert run.status in (dg.DagsterRunStatus.CANCELED, dg.DagsterRunStatus.CANCELING)
    assert "cancelled" in "\n".join(entry.user_message for entry in house.instance.all_logs(run.run_id))
    house.python = None
    assert house.embed().success


class _Cloud(kit.InProcess):
    """Jobs that go on without us and never end; something happens at the third poll."""

    outlives_driver = True

    def __init__(self, happens: Callable[[], None]) -> None:
        super().__init__()
        self.happens, self.polls = happens, 0
        self.cancelled: list[str] = []

    def submit(self, name: str, job: EmbedJob, url: str) -> JobHandle:
        return JobHandle(name, job.shard.key)

    def poll(self, handles: Sequence[JobHandle]) -> dict[JobHandle, JobStatus]:
        self.polls += 1
        if self.polls == 3:
            self.happens()
        return {handle: JobStatus(JobState.RUNNING) for handle in handles}

    def cancel(self, handles: Sequence[JobHandle]) -> None:
        self.cancelled += [handle.id for handle in handles]


@pytest.mark.parametrize("ends", ["cancelled", "interrupted", "code server gone"])
def test_only_cancelling_a_run_cancels_jobs_that_outlive_it(
    house: House, monkeypatch: pytest.MonkeyPatch, ends: str
) -> None:
    house.prepare()

    def happens() -> None:
        (run,) = house.instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED]))
        if ends == "cancelled":
            house.instance.report_run_canceling(run)
        elif ends == "interrupted":
            raise KeyboardInterrupt
        else:
            monkeypatch.setattr(os, "getppid", lambda: 1)

    cloud = _Cloud(happens)
    monkeypatch.setattr(kit.InProcessCompute, "backend", lambda: cloud)
    with contextlib.suppress(BaseException):
        house.embed()
    assert cloud.polls == 3, "the run went on"
    assert cloud.cancelled == (house.partitions() if ends == "cancelled" else [])
    (run,) = house.instance.get_runs(limit=1)
    log = "\n".join(entry.user_message for entry in house.instance.all_logs(run.run_id))
    assert ("cancelled 5 jobs" if ends == "cancelled" else "5 jobs go on") in log


# -- checks alone ----------------------------------------------------------------------------------


def test_checks_alone_for_one_partition(house: House) -> None:
    house.all()
    house.python = "/nowhere/python"
    for key, partition, names in [
        (RAW, "a", ROW_CHECKS),
        (STRIDES, "b-00001", ROW_CHECKS),
        (SHARDS, "b-00001", SHARD_CHECKS),
    ]:
        run = house.check(key, partition=partition)
        assert run.success
        assert house.made(run) == {}
        assert house.checks(run) == {partition: dict.fromkeys(names, True)}


def test_checks_alone_without_a_partition_check_all_that_are_materialized(house: House) -> None:
    house.prepare()
    assert house.run(SHARDS, "a-00000", "a-00001").success
    run = house.check(RAW, STRIDES, SHARDS)
    assert run.success
    per_asset: dict[Any, set[str]] = {}
    for event in house.events(run, CHECK):
        evaluation = event.asset_check_evaluation_data
        assert evaluation.passed
        per_asset.setdefault(evaluation.asset_key, set()).add(evaluation.partition)
    assert per_asset == {RAW: {"a", "b"}, STRIDES: set(house.partitions()), SHARDS: {"a-00000", "a-00001"}}


def test_checks_alone_see_what_has_gone_from_the_lake(house: House) -> None:
    house.all()
    for path in house.lake.rglob("_manifest.json"):
        path.unlink()
    for key in (RAW, STRIDES, SHARDS):
        run = house.check(key)
        found = house.checks(run)
        assert found
        assert not any(passed for checks in found.values() for passed in checks.values())


@pytest.mark.e2e
def test_checks_alone_survive_partitions_of_an_older_pipeline(house: House) -> None:
    house.all()
    house.strides = {"a": 2, "b": 2}
    house.prepare()
    assert house.embed().success
    run = house.check(STRIDES, SHARDS)
    assert run.success
    partitions = {event.asset_check_evaluation_data.partition for event in house.events(run, CHECK)}
    assert partitions == set(house.partitions())


# -- vector_index ----------------------------------------------------------------------------------


def test_an_incomplete_dataset_has_no_index(house: House) -> None:
    house.prepare()
    assert house.run(SHARDS, "a-00001").success
    failure = house.failure(house.run(INDEX, "a"))
    assert "2 of 3 embedding_shards of a are not committed: a-00000, a-00002" in failure.description
    assert not (house.lake / "vector_index").exists()


@pytest.mark.e2e
def test_a_damaged_shard_leaves_the_old_index_in_place(house: House) -> None:
    house.all()
    resource = Lake(str(house.lake))
    before = open_table(resource, kit.spec().spec_id, "a").to_arrow()
    kit.write_jsonl(house.sources["a"], kit.texts(30))
    house.prepare()
    assert house.embed().success
    newest = json.loads(next(house.lake.glob("raw_reviews/a/_latest.json")).read_text())["snapshot"]
    victim = next(house.lake.glob(f"embedding_shards/a/*/{newest}-*/00002/part-*.parquet"))
    whole = victim.read_bytes()
    victim.unlink()
    victim.write_bytes(whole[:-1] + b"?")
    failure = house.failure(house.run(INDEX, "a"))
    assert "sha256 differs" in failure.description
    assert open_table(resource, kit.spec().spec_id, "a").to_arrow() == before
    victim.write_bytes(whole)
    assert house.made(house.run(INDEX, "a"))["a"]["dagster/row_count"] == 30


@pytest.mark.e2e
def test_a_table_that_lost_rows_is_built_anew(house: House) -> None:
    house.all()
    resource = Lake(str(house.lake))
    open_table(resource, kit.spec().spec_id, "a").delete("row_id = 3")
    index = house.run(INDEX, "a")
    assert house.made(index)["a"] | {"dagster/row_count": 20, "adopted": False} == house.made(index)["a"]
    assert house.checks(index) == {"a": {"complete": True}}


@pytest.mark.e2e
def test_two_runs_that_record_the_last_two_shards_at_once_observe_the_digest(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither has seen the other's event when it looks whether the set is complete."""
    house.prepare()
    first, *rest = house.partitions("a")
    committed = PartitionRun.committed

    def meanwhile(run: PartitionRun, partition: str, **about: Any) -> None:
        monkeypatch.setattr(PartitionRun, "committed", committed)
        assert house.run(SHARDS, rest[0], rest[-1]).success
        committed(run, partition, **about)

    monkeypatch.setattr(PartitionRun, "committed", meanwhile)
    assert house.run(SHARDS, first).success
    seen = house.instance.fetch_observations(DIGEST, limit=9).records
    assert [record.partition_key for record in seen] == ["a"]


def test_the_digest_is_observed_once_the_set_is_complete(house: House) -> None:
    house.prepare()
    assert house.run(SHARDS, "a-00000", "a-00001").success

    def observed() -> list[str | None]:
        records = house.instance.fetch_observations(dg.AssetRecordsFilter(asset_key=DIGEST), limit=10).records
        return [record.partition_key for record in records]

    assert observed() == []
    house.embed()
    assert sorted(filter(None, observed())) == ["a", "b"]
    house.embed()
    assert sorted(filter(None, observed())) == ["a", "b"], "nothing new is nothing to observe"
