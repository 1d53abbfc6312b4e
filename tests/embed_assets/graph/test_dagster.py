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
from tests.kits import pipelines as kit
from tests.kits.compute.in_process import InProcess, InProcessCompute
from tests.kits.compute.worker_python import HANG, worker_python
from tests.kits.graph_bench import CHECK, DIGEST, INDEX, RAW, SHARDS, STRIDES, GraphBench
from tests.kits.processes import alive, wait_until

pytestmark = pytest.mark.slow


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[GraphBench]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield GraphBench(tmp_path, instance)


@pytest.fixture
def lasting(tmp_path: Path) -> Iterator[GraphBench]:
    """With an instance on disk, which other threads may read and write."""
    (tmp_path / "home").mkdir()
    quiet = {
        "compute_logs": {"module": "dagster._core.storage.noop_compute_log_manager", "class": "NoOpComputeLogManager"}
    }
    with dg.DagsterInstance.local_temp(str(tmp_path / "home"), overrides=quiet) as instance:
        yield GraphBench(tmp_path, instance)


# -- the whole path --------------------------------------------------------------------------------


def test_the_whole_path(bench: GraphBench) -> None:
    bench.python = sys.executable
    raw = bench.run(RAW, "a", "b")
    assert {name: data["dagster/row_count"] for name, data in bench.made(raw).items()} == {"a": 20, "b": 20}
    assert bench.checks(raw) == {name: dict.fromkeys(ROW_CHECKS, True) for name in "ab"}
    strides = bench.run(STRIDES, bench.partitions()[0], bench.partitions()[-1])
    rows = {key: data["dagster/row_count"] for key, data in bench.made(strides).items()}
    assert rows == {"a-00000": 7, "a-00001": 7, "a-00002": 6, "b-00000": 10, "b-00001": 10}
    assert bench.checks(strides) == {key: dict.fromkeys(ROW_CHECKS, True) for key in bench.partitions()}
    shards = bench.embed()
    made = bench.made(shards)
    assert {key: data["dagster/row_count"] for key, data in made.items()} == rows
    assert bench.checks(shards) == {key: dict.fromkeys(SHARD_CHECKS, True) for key in bench.partitions()}
    assert {data["job_worker_pid"] for data in made.values()} == {made["a-00000"]["job_worker_pid"]}, "loaded once"
    assert bench.instance.get_materialized_partitions(SHARDS) == set(bench.partitions())
    for name in "ab":
        index = bench.run(INDEX, name)
        assert bench.made(index)[name]["dagster/row_count"] == 20
        assert bench.checks(index) == {name: {"complete": True}}
    table = open_table(Lake(str(bench.lake)), kit.spec().spec_id, "a")
    found = table.to_arrow().to_pylist()
    assert {row["text"] for row in found} == {record["text"] for record in kit.texts(20)}
    assert "_dagster" not in json.dumps([str(path) for path in bench.lake.rglob("*")])


def test_each_partition_has_the_figures_of_its_own(bench: GraphBench) -> None:
    bench.prepare()
    made = bench.made(bench.embed())
    for key, data in made.items():
        manifest = json.loads(Path(data["manifest"]).read_text())
        assert data["dagster/row_count"] == manifest["rows_embedded"]
        assert (data["tokens"], data["windows"]) == (manifest["tokens"], manifest["windows"])
        assert data["input_digest"] == manifest["input"]["digest"]
        assert (data["starts"], data["jobs_in_this_run"], data["adopted"]) == (1, 1, False)
        assert (data["dimension"], data["dtype"], data["spec_id"]) == (32, "float32", kit.spec().spec_id)
        assert Path(data["dagster/uri"]) == Path(data["manifest"]).parent
        assert [c.name for c in data["dagster/column_schema"].columns] == pq.read_schema(
            next(Path(data["dagster/uri"]).glob("part-*.parquet"))
        ).names
        lineage = data["dagster/column_lineage"].deps_by_column["embedding"]
        assert [(dep.asset_key, dep.column_name) for dep in lineage] == [(STRIDES, "text")]
        assert manifest["shard"]["stride"] == int(key[-5:])


@pytest.mark.e2e
def test_checks_stand_on_the_materialization_of_their_partition(bench: GraphBench) -> None:
    bench.prepare()
    run = bench.embed()
    for event in bench.events(run, CHECK):
        evaluation = event.asset_check_evaluation_data
        target = evaluation.target_materialization_data
        assert target.storage_id == bench.latest(SHARDS, evaluation.partition).storage_id
        assert target.run_id == run.run_id


@pytest.mark.e2e
def test_a_failing_check_is_seen_on_its_partition_and_fails_no_run(bench: GraphBench) -> None:
    bench.prepare()
    bench.embed()
    space = next(bench.lake.glob("embedding_spaces/*.json"))
    value = orjson.loads(space.read_bytes())
    del value["digest"]
    value["canaries"]["vectors"].reverse()  # sound in itself, and of another kind than the shards
    space.write_bytes(sealed(f"embedding_spaces/{space.name}", value))
    run = bench.run(SHARDS, "a-00001")
    assert run.success
    assert bench.checks(run)["a-00001"] == {
        **dict.fromkeys(SHARD_CHECKS, True),
        "same_embedding_space": False,
    }
    assert "a-00001: check same_embedding_space failed" in bench.log(run)


# -- versions and staleness ------------------------------------------------------------------------


def test_the_version_tags_are_those_that_dagster_writes_itself(bench: GraphBench, tmp_path: Path) -> None:
    """The same graph as plain assets, whose tags Dagster makes, in an instance of its own."""
    bench.prepare()
    bench.embed()
    definitions = bench.definitions().resolve_asset_graph()
    by_dataset = definitions.get(RAW).partitions_def
    by_stride = definitions.get(STRIDES).partitions_def
    mapping = dg.StaticPartitionMapping({name: bench.partitions(name) for name in "ab"})

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
        toy = GraphBench(tmp_path / "toy", instance)
        for key, partition in [(RAW, "a"), (STRIDES, "a-00001"), (SHARDS, "a-00001")]:
            ours, theirs = bench.tags(key, partition), toy.tags(key, partition)
            assert ours.keys() == theirs.keys()
            for which, tags in ((bench, ours), (toy, theirs)):
                for parent, at in ((RAW, "a"), (STRIDES, "a-00001")):
                    name = parent.to_user_string()
                    if f"dagster/input_data_version/{name}" in tags:
                        version = which.tags(parent, at)["dagster/data_version"]
                        read = hashlib.sha256(version.encode()).hexdigest()
                        assert tags[f"dagster/input_data_version/{name}"] == read
                        assert tags[f"dagster/input_event_pointer/{name}"] == str(which.latest(parent, at).storage_id)
                assert tags["dagster/data_version_is_user_provided"] == "true"
            graph = bench.definitions().resolve_asset_graph()
            assert ours["dagster/code_version"] == graph.get(key).code_version


@pytest.mark.e2e
def test_fresh_after_the_whole_path(bench: GraphBench) -> None:
    bench.all()
    for key in (RAW, INDEX):
        assert bench.stale(key, ["a", "b"]) == {}
    for key in (STRIDES, SHARDS):
        assert bench.stale(key, bench.partitions()) == {}


def test_a_changed_source_makes_only_its_own_dataset_stale(bench: GraphBench) -> None:
    bench.all()
    kit.write_jsonl(bench.sources["a"], kit.texts(21))
    assert bench.run(RAW, "a", "b").success
    assert set(bench.stale(STRIDES, bench.partitions())) == set(bench.partitions("a"))
    assert bench.stale(SHARDS, bench.partitions()) == {}, "of partitions Dagster tells the next step only"
    assert bench.run(STRIDES, bench.partitions()[0], bench.partitions()[-1]).success
    assert bench.stale(STRIDES, bench.partitions()) == {}
    assert set(bench.stale(SHARDS, bench.partitions())) == set(bench.partitions("a"))
    run = bench.embed()
    adopted = {key: data["adopted"] for key, data in bench.made(run).items()}
    assert adopted == {**dict.fromkeys(bench.partitions("a"), False), **dict.fromkeys(bench.partitions("b"), True)}
    assert bench.stale(SHARDS, bench.partitions()) == {}
    assert set(bench.stale(INDEX, ["a", "b"])) == {"a"}
    index = bench.run(INDEX, "a")
    assert bench.made(index)["a"] | {"dagster/row_count": 21, "adopted": False} == bench.made(index)["a"]
    assert bench.stale(INDEX, ["a", "b"]) == {}


@pytest.mark.e2e
def test_a_new_snapshot_asks_for_all_shards_of_its_dataset(bench: GraphBench) -> None:
    """Its shards are a set of their own: a stride whose rows did not change is due too, or the set stays incomplete."""
    bench.all()
    kit.write_jsonl(bench.sources["b"], kit.texts(21, 100))
    bench.prepare()
    assert set(bench.stale(SHARDS, bench.partitions())) == set(bench.partitions("b"))
    assert "not committed: b-00000, b-00001" in bench.failure(bench.run(INDEX, "b")).description


@pytest.mark.e2e
def test_another_model_makes_every_shard_stale_by_its_code_version(bench: GraphBench) -> None:
    bench.all()
    old = set(bench.shard_files("_manifest.json"))
    bench.embedding = {"pooling": "cls"}
    stale = bench.stale(SHARDS, bench.partitions())
    assert set(stale) == set(bench.partitions())
    assert all("code version" in reason for reason in stale.values()), stale
    assert bench.stale(STRIDES, bench.partitions()) == {}
    assert bench.embed().success
    assert bench.stale(SHARDS, bench.partitions()) == {}
    assert old < set(bench.shard_files("_manifest.json")), "the earlier vectors are still there, beside the new"


@pytest.mark.e2e
def test_another_template_makes_the_raw_data_stale_by_its_code_version(bench: GraphBench) -> None:
    bench.all()
    bench.ingest = {"text": "{key}: {text}"}
    assert all("code version" in reason for reason in bench.stale(RAW, ["a", "b"]).values())
    assert set(bench.stale(RAW, ["a", "b"])) == {"a", "b"}


# -- adoption and repair ---------------------------------------------------------------------------


def test_what_is_committed_is_adopted_with_its_checks_and_nothing_is_embedded(bench: GraphBench) -> None:
    bench.all()
    files = {path: path.stat().st_mtime_ns for path in bench.lake.rglob("*.*") if path.is_file()}
    versions = {key: bench.tags(SHARDS, key)["dagster/data_version"] for key in bench.partitions()}
    bench.python = "/nowhere/python"  # any attempt to embed would fail
    bench.prepare()
    run = bench.embed()
    assert run.success
    assert {key: data["adopted"] for key, data in bench.made(run).items()} == dict.fromkeys(bench.partitions(), True)
    assert bench.checks(run) == {key: dict.fromkeys(SHARD_CHECKS, True) for key in bench.partitions()}
    assert {key: bench.tags(SHARDS, key)["dagster/data_version"] for key in bench.partitions()} == versions
    assert bench.log(run).count("committed already, adopted") == 1  # a line, not one a partition
    index = bench.run(INDEX, "a")
    assert bench.made(index)["a"]["adopted"] is True
    after = {path: path.stat().st_mtime_ns for path in bench.lake.rglob("*.*") if path.is_file()}
    assert after == files, "a no-op wrote to the lake"
    assert bench.stale(SHARDS, bench.partitions()) == {}


@pytest.mark.parametrize(
    "damage", ["changed", pytest.param("gone", marks=pytest.mark.e2e), pytest.param("manifest", marks=pytest.mark.e2e)]
)
def test_a_damaged_shard_is_repaired_and_no_other_touched(bench: GraphBench, damage: str) -> None:
    bench.prepare()
    bench.embed()
    whole = {path: path.read_bytes() for path in bench.shard_files("part-*.parquet")}
    version = bench.tags(SHARDS, "a-00001")["dagster/data_version"]
    victim = next(path for path in whole if path.parent.name == "00001" and "/a/" in str(path))
    if damage == "manifest":
        (victim.parent / "_manifest.json").write_text('{"format": 1}')
    else:
        victim.unlink()
        if damage == "changed":
            victim.write_bytes(whole[victim][:-9] + b"corrupted")
    run = bench.embed()
    assert run.success
    adopted = {key: data["adopted"] for key, data in bench.made(run).items()}
    assert adopted == {**dict.fromkeys(bench.partitions(), True), "a-00001": False}
    assert bench.checks(run)["a-00001"] == dict.fromkeys(SHARD_CHECKS, True)
    found = {path: path.read_bytes() for path in bench.shard_files("part-*.parquet")}
    assert {path.parent: data for path, data in found.items()} == {path.parent: data for path, data in whole.items()}
    assert len(found) == len(whole), "the damaged file is swept; the new one has a name of its own"
    assert bench.tags(SHARDS, "a-00001")["dagster/data_version"] == version
    assert list(victim.parent.glob("_retired-*.json")), "the manifest is retired, not lost"


@pytest.mark.parametrize("which", ["raw_reviews", "stride_partitions"])
@pytest.mark.parametrize("damage", ["part", "manifest"])
def test_damaged_rows_are_written_anew(bench: GraphBench, which: str, damage: str) -> None:
    bench.prepare()
    key, partition = (RAW, "a") if which == "raw_reviews" else (STRIDES, "a-00001")
    version = bench.tags(key, partition)["dagster/data_version"]
    path = sorted((bench.lake / which / "a").rglob("part-*.parquet" if damage == "part" else "_manifest.json"))[0]
    whole = path.read_bytes()
    path.unlink()
    path.write_bytes(b"damage" if damage == "part" else b"{}")
    run = bench.run(key, partition)
    assert run.success, bench.log(run)
    assert bench.made(run)[partition]["adopted"] is False
    assert all(bench.checks(run)[partition].values())
    assert bench.tags(key, partition)["dagster/data_version"] == version
    if damage == "part":  # nothing is deleted under its fixed name: gc does it
        (anew,) = path.parent.glob("part-00000.*.parquet")
        assert anew.read_bytes() == whole


def test_a_changed_stride_file_fails_before_any_embedding(bench: GraphBench) -> None:
    bench.prepare()
    path = bench.lake.glob("stride_partitions/a/*/00001/part-00000.parquet").__next__()
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data[:-1] + b"?")
    run = bench.embed()
    failure = bench.failure(run)
    assert set(bench.made(run)) == set(bench.partitions()) - {"a-00001"}
    assert "Re-materialize stride_partitions" in failure.description
    assert "attempts: 1" in failure.description
    assert not [p for p in bench.shard_files("checkpoints/*/*.parquet") if p.parts[-4] == "00001" and "/a/" in str(p)]
    bench.prepare()
    assert bench.embed().success


# -- failures --------------------------------------------------------------------------------------


def test_a_poisoned_partition_fails_after_its_attempts_and_the_others_stay_green(
    bench: GraphBench, tmp_path: Path
) -> None:
    bench.prepare()
    die = "if job.shard.key == 'b-00000': print('out of luck', file=sys.stderr, flush=True); os.kill(os.getpid(), 9)"
    bench.python = worker_python(tmp_path / "python", die)
    run = bench.embed()
    failure = bench.failure(run)
    good = set(bench.partitions()) - {"b-00000"}
    assert set(bench.made(run)) == good
    assert set(bench.checks(run)) == good
    assert bench.instance.get_materialized_partitions(SHARDS) == good
    (record,) = failure.metadata["failed_partitions"].records
    assert record.data["partition"] == "b-00000"
    assert "killed by SIGKILL" in record.data["error"]
    assert "attempts: 2" in record.data["error"]
    assert "out of luck" in failure.metadata["last_log_lines"].value
    assert "out of luck" in bench.log(run)
    bench.python = None
    again = bench.embed()
    assert again.success
    assert {key: data["adopted"] for key, data in bench.made(again).items()} == {
        **dict.fromkeys(good, True),
        "b-00000": False,
    }


def test_a_job_that_no_attempt_can_make_is_refused_at_once(bench: GraphBench) -> None:
    bench.embedding = {"model": "some/model", "location": str(bench.folder / "no-model-here")}
    bench.prepare()
    run = bench.embed()
    failure = bench.failure(run)
    assert bench.made(run) == {}
    errors = [record.data["error"] for record in failure.metadata["failed_partitions"].records]
    assert len(errors) == 5
    assert all("no model at" in error and "attempts: 1" in error for error in errors)
    assert "no model at" in failure.metadata["last_log_lines"].value


def test_weights_that_are_not_the_pinned_ones_are_refused(bench: GraphBench) -> None:
    model = bench.folder / "model"
    model.mkdir()
    for name in ("config.json", "model.safetensors"):
        (model / name).write_text("{}")
    byte_tokenizer().save(str(model / "tokenizer.json"))
    bench.embedding = {"model": "some/model", "location": str(model), "sha256": {"model.safetensors": "0" * 64}}
    bench.prepare()
    failure = bench.failure(bench.run(SHARDS, "a-00000"))
    assert "not the pinned weights" in failure.description


@pytest.mark.parametrize("python", ["/nowhere/bin/python"])
def test_a_missing_worker_environment_is_said_clearly(bench: GraphBench, python: str) -> None:
    bench.prepare()
    bench.python = python
    failure = bench.failure(bench.embed())
    assert "EMBED_WORKER_PYTHON" in failure.description
    assert "make setup" in failure.description


def test_one_bad_dataset_does_not_stop_the_other(bench: GraphBench) -> None:
    bench.sources["a"].write_text("no json\n")
    run = bench.run(RAW, "a", "b")
    assert "all 1 records are unusable (malformed JSON)" in bench.failure(run).description
    assert set(bench.made(run)) == {"b"}
    strides = bench.run(STRIDES, bench.partitions()[0], bench.partitions()[-1])
    assert "raw_reviews of a is not in" in bench.failure(strides).description
    assert set(bench.made(strides)) == set(bench.partitions("b"))
    shards = bench.embed()
    assert set(bench.made(shards)) == set(bench.partitions("b"))
    assert {r.data["partition"] for r in bench.failure(shards).metadata["failed_partitions"].records} == set(
        bench.partitions("a")
    )


def test_a_lake_that_cannot_be_written_is_said_clearly(bench: GraphBench) -> None:
    bench.lake.write_text("a file where the lake should be")
    assert "EMBED_LAKE" in bench.failure(bench.run(RAW, "a", "b")).description


def test_a_lake_that_is_away_while_a_partition_is_recorded_is_waited_for(
    bench: GraphBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.prepare()
    answers = iter([StoreUnavailable("s3://lake: the store cannot be reached")])

    def restore(*arguments: Any) -> str | None:
        if (error := next(answers, None)) is not None:
            raise error
        return restore_space(*arguments)

    monkeypatch.setattr("embed_assets.checks.proof.restore_space", restore)
    run = bench.embed()
    assert run.success, bench.log(run)
    assert set(bench.made(run)) == set(bench.partitions())
    assert bench.log(run).count("the lake does not answer") == bench.log(run).count("the lake answers again") == 1


def test_a_lake_that_is_away_when_a_run_begins_is_waited_for(
    bench: GraphBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.prepare()
    answers = iter([StoreAway("s3://lake: the store cannot be reached")])

    def snapshot(*arguments: Any) -> Any:
        if (error := next(answers, None)) is not None:
            raise error
        return current_snapshot(*arguments)

    monkeypatch.setattr("embed_assets.graph.shard_jobs.current_snapshot", snapshot)
    run = bench.embed()
    assert run.success, bench.log(run)
    assert set(bench.made(run)) == set(bench.partitions())
    assert bench.log(run).count("the lake does not answer") == 1


def test_a_lake_that_stays_away_when_a_run_begins_fails_its_partitions_clearly(
    bench: GraphBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.prepare()
    asked = []

    def snapshot(lake: Any, dataset: Any) -> Any:
        asked.append(dataset.name)
        raise StoreAway("s3://lake: the store cannot be reached")

    monkeypatch.setattr("embed_assets.graph.shard_jobs.current_snapshot", snapshot)
    monkeypatch.setattr("embed_assets.graph.shard_jobs.PATIENCE", 0.0)
    run = bench.embed()
    assert "the store cannot be reached" in bench.failure(run).description
    assert sorted(asked) == ["a", "b"]  # not once a partition
    assert bench.made(run) == {}


def test_a_full_disk_is_said_clearly(bench: GraphBench, monkeypatch: pytest.MonkeyPatch) -> None:
    mounted = bench.folder / "small"
    mounted.mkdir()
    if os.geteuid() != 0 or os.system(f"mount -t tmpfs -o size=300k tmpfs {mounted} 2>/dev/null") != 0:  # noqa: S605
        pytest.skip("cannot mount a small disk here")
    try:
        kit.write_jsonl(bench.sources["a"], [{"text": os.urandom(800).hex()} for _ in range(2000)])
        bench.lake = mounted / "lake"
        run = bench.run(RAW, "a", "b")
        assert "no space left" in bench.failure(run).description
        assert "a" not in bench.made(run)
        assert [path for path in kit.manifests(bench.lake) if "/a/" in path] == []
    finally:
        os.system(f"umount {mounted}")  # noqa: S605


# -- cancellation ----------------------------------------------------------------------------------


def hanging(bench: GraphBench) -> Path:
    """The first job of the worker never ends."""
    pids = bench.folder / "pids"
    body = f"open({str(pids)!r}, 'a').write(str(os.getpid()) + chr(10)); {HANG}"
    bench.python = worker_python(bench.folder / "python", body)
    return pids


@pytest.mark.parametrize("how", [pytest.param("status", marks=pytest.mark.e2e), "interrupt"])
def test_cancelling_a_run_stops_its_workers(lasting: GraphBench, how: str) -> None:
    bench = lasting
    bench.prepare()
    pids = hanging(bench)

    def cancel() -> None:
        wait_until(lambda: pids.exists() and pids.read_text().strip(), "the worker's start")
        (run,) = bench.instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED]))
        bench.instance.report_run_canceling(run)
        if how == "interrupt":
            os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=cancel)
    thread.start()
    with contextlib.suppress(BaseException):
        bench.embed()
    thread.join()
    worker = int(pids.read_text().split()[0])
    assert not alive(worker)
    (run,) = bench.instance.get_runs(limit=1)
    assert run.status in (dg.DagsterRunStatus.CANCELED, dg.DagsterRunStatus.CANCELING)
    assert "cancelled" in "\n".join(entry.user_message for entry in bench.instance.all_logs(run.run_id))
    bench.python = None
    assert bench.embed().success


class _Cloud(InProcess):
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
    bench: GraphBench, monkeypatch: pytest.MonkeyPatch, ends: str
) -> None:
    bench.prepare()

    def happens() -> None:
        (run,) = bench.instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED]))
        if ends == "cancelled":
            bench.instance.report_run_canceling(run)
        elif ends == "interrupted":
            raise KeyboardInterrupt
        else:
            monkeypatch.setattr(os, "getppid", lambda: 1)

    cloud = _Cloud(happens)
    monkeypatch.setattr(InProcessCompute, "backend", lambda: cloud)
    with contextlib.suppress(BaseException):
        bench.embed()
    assert cloud.polls == 3, "the run went on"
    assert cloud.cancelled == (bench.partitions() if ends == "cancelled" else [])
    (run,) = bench.instance.get_runs(limit=1)
    log = "\n".join(entry.user_message for entry in bench.instance.all_logs(run.run_id))
    assert ("this run was cancelled: 5 jobs are stopped" if ends == "cancelled" else "5 jobs go on") in log


# -- checks alone ----------------------------------------------------------------------------------


def test_checks_alone_for_one_partition(bench: GraphBench) -> None:
    bench.all()
    bench.python = "/nowhere/python"
    for key, partition, names in [
        (RAW, "a", ROW_CHECKS),
        (STRIDES, "b-00001", ROW_CHECKS),
        (SHARDS, "b-00001", SHARD_CHECKS),
    ]:
        run = bench.check(key, partition=partition)
        assert run.success
        assert bench.made(run) == {}
        assert bench.checks(run) == {partition: dict.fromkeys(names, True)}


def test_checks_alone_without_a_partition_check_all_that_are_materialized(bench: GraphBench) -> None:
    bench.prepare()
    assert bench.run(SHARDS, "a-00000", "a-00001").success
    run = bench.check(RAW, STRIDES, SHARDS)
    assert run.success
    per_asset: dict[Any, set[str]] = {}
    for event in bench.events(run, CHECK):
        evaluation = event.asset_check_evaluation_data
        assert evaluation.passed
        per_asset.setdefault(evaluation.asset_key, set()).add(evaluation.partition)
    assert per_asset == {RAW: {"a", "b"}, STRIDES: set(bench.partitions()), SHARDS: {"a-00000", "a-00001"}}


def test_checks_alone_see_what_has_gone_from_the_lake(bench: GraphBench) -> None:
    bench.all()
    for path in bench.lake.rglob("_manifest.json"):
        path.unlink()
    for key in (RAW, STRIDES, SHARDS):
        run = bench.check(key)
        found = bench.checks(run)
        assert found
        assert not any(passed for checks in found.values() for passed in checks.values())


@pytest.mark.e2e
def test_checks_alone_survive_partitions_of_an_older_pipeline(bench: GraphBench) -> None:
    bench.all()
    bench.strides = {"a": 2, "b": 2}
    bench.prepare()
    assert bench.embed().success
    run = bench.check(STRIDES, SHARDS)
    assert run.success
    partitions = {event.asset_check_evaluation_data.partition for event in bench.events(run, CHECK)}
    assert partitions == set(bench.partitions())


# -- vector_index ----------------------------------------------------------------------------------


def test_an_incomplete_dataset_has_no_index(bench: GraphBench) -> None:
    bench.prepare()
    assert bench.run(SHARDS, "a-00001").success
    failure = bench.failure(bench.run(INDEX, "a"))
    assert "2 of 3 embedding_shards of a are not committed: a-00000, a-00002" in failure.description
    assert not (bench.lake / "vector_index").exists()


@pytest.mark.e2e
def test_a_damaged_shard_leaves_the_old_index_in_place(bench: GraphBench) -> None:
    bench.all()
    resource = Lake(str(bench.lake))
    before = open_table(resource, kit.spec().spec_id, "a").to_arrow()
    kit.write_jsonl(bench.sources["a"], kit.texts(30))
    bench.prepare()
    assert bench.embed().success
    newest = json.loads(next(bench.lake.glob("raw_reviews/a/_latest.json")).read_text())["snapshot"]
    victim = next(bench.lake.glob(f"embedding_shards/a/*/{newest}-*/00002/part-*.parquet"))
    whole = victim.read_bytes()
    victim.unlink()
    victim.write_bytes(whole[:-1] + b"?")
    failure = bench.failure(bench.run(INDEX, "a"))
    assert "sha256 differs" in failure.description
    assert open_table(resource, kit.spec().spec_id, "a").to_arrow() == before
    victim.write_bytes(whole)
    assert bench.made(bench.run(INDEX, "a"))["a"]["dagster/row_count"] == 30


@pytest.mark.e2e
def test_a_table_that_lost_rows_is_built_anew(bench: GraphBench) -> None:
    bench.all()
    resource = Lake(str(bench.lake))
    open_table(resource, kit.spec().spec_id, "a").delete("row_id = 3")
    index = bench.run(INDEX, "a")
    assert bench.made(index)["a"] | {"dagster/row_count": 20, "adopted": False} == bench.made(index)["a"]
    assert bench.checks(index) == {"a": {"complete": True}}


@pytest.mark.e2e
def test_two_runs_that_record_the_last_two_shards_at_once_observe_the_digest(
    bench: GraphBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither has seen the other's event when it looks whether the set is complete."""
    bench.prepare()
    first, *rest = bench.partitions("a")
    committed = PartitionRun.committed

    def meanwhile(run: PartitionRun, partition: str, **about: Any) -> None:
        monkeypatch.setattr(PartitionRun, "committed", committed)
        assert bench.run(SHARDS, rest[0], rest[-1]).success
        committed(run, partition, **about)

    monkeypatch.setattr(PartitionRun, "committed", meanwhile)
    assert bench.run(SHARDS, first).success
    seen = bench.instance.fetch_observations(DIGEST, limit=9).records
    assert [record.partition_key for record in seen] == ["a"]


def test_the_digest_is_observed_once_the_set_is_complete(bench: GraphBench) -> None:
    bench.prepare()
    assert bench.run(SHARDS, "a-00000", "a-00001").success

    def observed() -> list[str | None]:
        records = bench.instance.fetch_observations(dg.AssetRecordsFilter(asset_key=DIGEST), limit=10).records
        return [record.partition_key for record in records]

    assert observed() == []
    bench.embed()
    assert sorted(filter(None, observed())) == ["a", "b"]
    bench.embed()
    assert sorted(filter(None, observed())) == ["a", "b"], "nothing new is nothing to observe"
