"""What becomes of partitions that are cancelled, wiped or renamed, and of a pipeline file that is changed and reloaded."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from embed_assets import Lake, Settings, load_pipeline
from embed_assets.deployment import deployed
from embed_assets.testing.compute import InProcess, InProcessCompute
from resources.compute import JobHandle
from resources.dagster import ComputeResource
from resources.local.resource import LocalComputeResource
from tests.kits import pipelines as kit
from tests.kits.graph_bench import INDEX, MATERIALIZATION, RAW, SET, SHARDS, STRIDES, GraphBench
from tests.kits.graphql import graphql
from tests.kits.location import Location
from tests.kits.pipeline_files import pipeline_file

pytestmark = pytest.mark.slow
GREEN = "AssetPartitionStatus.MATERIALIZED"


def files(lake: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in lake.rglob("*.parquet")}


def recorded(bench: GraphBench, run: dg.ExecuteInProcessResult) -> set[tuple[dg.AssetKey, str]]:
    return {(event.asset_key, event.partition) for event in bench.events(run, MATERIALIZATION)}


def test_a_cancelled_run_is_executed_again_and_does_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    location = Location(tmp_path)
    submitted: list[str] = []
    submit = InProcess.submit

    def cancelled_after_two(self: InProcess, name: str, job: Any, url: str) -> JobHandle:
        handle = submit(self, name, job, url)
        submitted.append(job.shard.key)
        if len(submitted) == 2:
            with location.instance() as instance:
                (run,) = instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED]))
                instance.report_run_canceling(run)
        return handle

    monkeypatch.setattr(InProcess, "submit", cancelled_after_two)
    monkeypatch.setattr(InProcess, "slots", 1)
    shards = ["p", "embedding_shards"]
    with graphql(location) as ui:
        assert ui.status(ui.launch(["p", "raw_reviews"], "d", "e")) == "SUCCESS"
        assert ui.status(ui.launch(["p", "stride_partitions"], "d-00000", "e-00001")) == "SUCCESS"
        run = ui.launch(shards, "d-00000", "e-00001")
        assert ui.status(run) in ("CANCELED", "CANCELING"), ui.messages(run)
        again = ui.again(run)
        assert ui.status(again) == "SUCCESS"
        with ui.instance() as instance:
            found = instance.get_run_by_id(again)
        assert found is not None and found.parent_run_id == run
        adopted = {key: one["adopted"] for key, one in ui.metadata([again]).items()}
    assert submitted == sorted(adopted), "nothing was embedded twice"
    done = {"d-00000": True, "d-00001": True}
    assert adopted == done | {"e-00000": False, "e-00001": False}


@pytest.mark.parametrize("how", ["materialize", "update"])
def test_what_is_wiped_is_adopted(bench: GraphBench, how: str) -> None:
    bench.all()
    before = files(bench.lake)
    everything = {
        *((key, name) for key in (SET, INDEX) for name in "ab"),
        *((RAW, name) for name in bench.snapshots()),
        *((key, partition) for key in (STRIDES, SHARDS) for partition in bench.partitions()),
    }
    bench.instance.wipe_assets([RAW, STRIDES, SHARDS, SET, INDEX])
    assert bench.instance.get_materialized_partitions(SHARDS) == set()
    bench.python = "/nowhere/python"  # any attempt to embed would fail
    if how == "update":
        run = bench.update()
        assert run.success and recorded(bench, run) == everything
    else:
        bench.all()
    assert {str(state) for state in bench.states(SHARDS, bench.partitions()).values()} == {GREEN}
    assert bench.stale(SHARDS, bench.partitions()) == {} and bench.stale(INDEX, ["a", "b"]) == {}
    assert files(bench.lake) == before


def test_dagster_wipes_no_single_partition(bench: GraphBench) -> None:
    """Once it does, docs/dagster.md has a sentence too many."""
    with pytest.raises(NotImplementedError, match="Partitioned asset wipe is not supported yet"):
        bench.instance.event_log_storage.wipe_asset_partitions(SHARDS, ["a-00001"])


Reload = Callable[..., None]


@pytest.fixture
def reload(bench: GraphBench) -> Reload:
    """Writes the pipeline's file: what stands in it is what the bench's next look at the definitions finds."""

    def definitions() -> dg.Definitions:
        settings = Settings(lake=str(bench.lake), max_attempts=2)
        compute: ComputeResource = InProcessCompute()
        if bench.python is not None:
            compute = LocalComputeResource(worker_python=bench.python, poll_seconds=0.02)
        return deployed([load_pipeline(bench.folder / "p.yaml")], settings, compute)

    def write(
        strides: dict[str, int], changes: dict[str, Any] | None = None, formerly: dict[str, str] | None = None
    ) -> None:
        bench.strides, names = strides, formerly or {}
        datasets = [
            {"name": name, "source": str(bench.sources[name]), "text": "{text}", "strides": count}
            | ({"formerly": names[name]} if name in names else {})
            for name, count in strides.items()
        ]
        pipeline_file(bench.folder, {"datasets": datasets, **(changes or {})})

    bench.definitions = definitions  # type: ignore[method-assign]
    write({"a": 3, "b": 2})
    assert bench.update().success
    return write


def of(bench: GraphBench, *names: str) -> set[tuple[dg.AssetKey, str]]:
    """What is recorded of these datasets when all is made."""
    return {
        *((key, name) for key in (SET, INDEX) for name in names),
        *((RAW, name) for name in bench.snapshots(*names)),
        *((key, partition) for key in (STRIDES, SHARDS) for partition in bench.partitions(*names)),
    }


UNCUT = {(RAW, "b"), (RAW, "b-delta"), (STRIDES, "b-delta"), (SHARDS, "b-delta")}
"""Of a dataset, what has nothing to do with the number of its strides."""


def test_other_strides_take_their_dataset_without_its_snapshot(bench: GraphBench, reload: Reload) -> None:
    before = files(bench.lake)
    reload({"a": 3, "b": 4})
    assert bench.stale(SHARDS, bench.partitions("a")) == {}
    run = bench.update()
    assert run.success and recorded(bench, run) == of(bench, "b") - UNCUT
    kept = files(bench.lake)
    assert {path: kept.get(path) for path in before} == before, "the vectors of the earlier cut stay"
    assert recorded(bench, bench.update()) == set()
    reload({"a": 3, "b": 2})
    run = bench.update()
    assert run.success and {data["adopted"] for data in bench.made(run).values()} == {True}
    assert files(bench.lake).keys() >= kept.keys() - set(bench.lake.glob("vector_index/**/*"))


def test_another_model_embeds_all_beside_the_earlier_vectors(bench: GraphBench, reload: Reload) -> None:
    before = set(bench.shard_files("part-*.parquet"))
    reload(bench.strides, {"embedding": {**kit.HASH, "pooling": "cls"}})
    assert set(bench.stale(SHARDS, bench.partitions())) == set(bench.partitions())
    run = bench.update()
    untouched = {(key, partition) for key, partition in of(bench, "a", "b") if key in (RAW, STRIDES)}
    assert run.success and recorded(bench, run) == of(bench, "a", "b") - untouched
    assert before < set(bench.shard_files("part-*.parquet"))
    reload(bench.strides)
    run = bench.update()
    assert run.success and {data["adopted"] for data in bench.made(run).values()} == {True}


def test_a_dataset_that_is_added_leaves_the_others_green(bench: GraphBench, reload: Reload, tmp_path: Path) -> None:
    bench.sources["c"] = kit.write_jsonl(tmp_path / "c.jsonl", kit.texts(5))
    old = bench.partitions()
    reload({**bench.strides, "c": 1})
    assert bench.stale(SHARDS, old) == {} and bench.stale(INDEX, ["a", "b"]) == {}
    states = bench.states(SHARDS, bench.partitions("a", "b", "c"))
    assert {key for key, state in states.items() if state is None} == {"c-00000", "c-delta"}
    run = bench.update()
    assert run.success and recorded(bench, run) == of(bench, "c")


def test_a_dataset_that_is_renamed_is_another(bench: GraphBench, reload: Reload) -> None:
    before, old = files(bench.lake), bench.partitions("b")
    bench.sources["c"] = bench.sources["b"]
    reload({"a": 3, "c": 2})
    run = bench.update()
    assert run.success and recorded(bench, run) == of(bench, "c")
    assert {data["adopted"] for key, data in bench.made(run).items() if key not in ("a", "c-delta")} == {False}
    after = files(bench.lake)
    assert {path: after.get(path) for path in before} == before, "the old one's folders stay"
    assert bench.instance.get_materialized_partitions(SHARDS) == {*bench.partitions("a", "c"), *old}
    assert set(old).isdisjoint(
        bench.definitions().resolve_asset_graph().get(SHARDS).partitions_def.get_partition_keys()
    )
    reload({"a": 3, "b": 2})
    assert recorded(bench, bench.update()) == set(), "the old name again: all is there, and Dagster knows it"


def vectors(bench: GraphBench, dataset: str) -> dict[str, list[float]]:
    (pipeline,) = [load_pipeline(bench.folder / "p.yaml")]
    found = Lake(str(bench.lake)).scan(pipeline, dataset).collect()
    return dict(zip(found["id"].to_list(), found["embedding"].to_list(), strict=True))


@pytest.mark.parametrize("strides", [2, 5])
def test_a_renamed_dataset_keeps_its_vectors(bench: GraphBench, reload: Reload, strides: int) -> None:
    before, old = files(bench.lake), vectors(bench, "b")
    bench.sources["c"] = bench.sources["b"]
    reload({"a": 3, "c": strides}, formerly={"c": "b"})
    bench.python = "/nowhere/python"  # any attempt to embed would fail
    run = bench.update()
    assert run.success and recorded(bench, run) == of(bench, "c"), bench.log(run)
    assert vectors(bench, "c") == old
    after = files(bench.lake)
    assert {path: after.get(path) for path in before} == before, "the old one's folders stay"
    shutil.rmtree(bench.lake / "embedding_shards/b")
    assert recorded(bench, bench.update()) == set(), "the old one's are not needed any more"
    assert vectors(bench, "c") == old
