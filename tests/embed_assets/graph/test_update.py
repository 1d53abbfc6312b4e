"""`p__update`: whatever is due in one run, and no other partition changes colour."""

from typing import Any

import dagster as dg
import pytest

from tests.kits import pipelines as kit
from tests.kits.graph_bench import INDEX, MATERIALIZATION, RAW, SET, SHARDS, STRIDES, GraphBench

pytestmark = pytest.mark.slow


def recorded(bench: GraphBench, run: dg.ExecuteInProcessResult) -> dict[dg.AssetKey, set[str]]:
    found: dict[dg.AssetKey, set[str]] = {}
    for event in bench.events(run, MATERIALIZATION):
        key = event.step_materialization_data.materialization.asset_key
        assert event.partition not in found.setdefault(key, set()), "a partition has two events"
        found[key].add(event.partition)
    return found


def everything(bench: GraphBench) -> dict[dg.AssetKey, set[str]]:
    partitions = set(bench.partitions())
    return {RAW: set(bench.snapshots()), STRIDES: partitions, SHARDS: partitions, SET: {"a", "b"}, INDEX: {"a", "b"}}


def test_one_run_takes_all_from_nothing(bench: GraphBench) -> None:
    run = bench.update()
    assert run.success
    assert recorded(bench, run) == everything(bench)
    assert bench.stale(RAW, bench.snapshots()) == {}
    for key in (SET, INDEX):
        assert bench.stale(key, ["a", "b"]) == {}
    for key in (STRIDES, SHARDS):
        assert bench.stale(key, bench.partitions()) == {}


def test_nothing_due_records_nothing(bench: GraphBench) -> None:
    bench.all()
    run = bench.update()
    assert run.success and recorded(bench, run) == {}
    assert "due: 0 of 7 partitions" in bench.log(run)


def test_a_changed_source_takes_its_own_dataset_only(bench: GraphBench) -> None:
    bench.all()
    kit.write_jsonl(bench.sources["b"], kit.texts(21, 100))
    run = bench.update()
    assert run.success
    delta = {"b-delta"}
    assert recorded(bench, run) == {RAW: delta, STRIDES: delta, SHARDS: delta, SET: {"b"}, INDEX: {"b"}}


def test_datasets_are_chosen_by_name(bench: GraphBench) -> None:
    run = bench.update(datasets=["a"])
    assert run.success and recorded(bench, run)[SHARDS] == set(bench.partitions("a"))
    failure = bench.failure(bench.update(datasets=["c"]))
    assert failure.description == "datasets: p has no 'c'; it has a, b"


def test_a_scatter_that_fails_leaves_every_other_partition_as_it_was(
    bench: GraphBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """3 of 200: the ranges between them are never planned, so they do not turn red."""
    bench.strides = {"a": 200, "b": 1}
    kit.write_jsonl(bench.sources["a"], kit.texts(200))
    assert bench.update(datasets=["a"]).success
    gone = ["a-00003", "a-00077", "a-00199"]
    for key in gone:
        for file in bench.lake.glob(f"embedding_shards/a/*/*/{key[-5:]}/*/*"):
            file.unlink()
    bench.break_input(gone[1])
    before = {key: bench.latest(SHARDS, key).storage_id for key in bench.partitions("a")}
    run = bench.update(datasets=["a"], only="missing")
    failure = bench.failure(run)
    assert "a-00077" in failure.description and "1 of" in failure.description
    assert recorded(bench, run) == {SHARDS: {gone[0], gone[2]}}
    for key in bench.partitions("a"):
        assert (bench.latest(SHARDS, key).storage_id == before[key]) == (key not in (gone[0], gone[2]))
    states: Any = bench.states(SHARDS, bench.partitions("a"))
    assert {str(state) for state in states.values()} == {"AssetPartitionStatus.MATERIALIZED"}


def test_only_failed_takes_what_was_given_up(bench: GraphBench) -> None:
    bench.prepare()
    mended = bench.break_input("b-00001")
    assert not bench.update(datasets=["b"], only="missing").success
    mended()
    run = bench.update(only="failed")
    assert run.success
    assert recorded(bench, run) == {SHARDS: {"b-00001"}, SET: {"b"}, INDEX: {"b"}}


def test_a_sample_of_what_is_missing_is_refused(bench: GraphBench) -> None:
    failure = bench.failure(bench.update(sample_rows=4, only="missing"))
    assert failure.description == "sample_rows makes new snapshots; it goes with `only: due`, not with 'missing'"


def test_force_embeds_anew(bench: GraphBench) -> None:
    bench.all()
    run = bench.update(force=True, datasets=["a"])
    assert run.success
    made = {key: data["adopted"] for key, data in bench.made(run).items()}
    assert made == {**dict.fromkeys(bench.strides_of("a"), False), "a-delta": True}


def test_a_sample_is_whole_in_itself_and_the_next_update_takes_the_rest(bench: GraphBench) -> None:
    run = bench.update(sample_rows=4, datasets=["a"])
    assert (
        run.success and bench.latest(SET, "a").asset_materialization.metadata["dagster/partition_row_count"].value == 4
    )
    assert bench.update(datasets=["a"]).success
    assert bench.latest(SET, "a").asset_materialization.metadata["dagster/partition_row_count"].value == 20


def test_a_dataset_whose_source_is_gone_does_not_hold_up_the_other(bench: GraphBench) -> None:
    bench.sources["a"].unlink()
    run = bench.update()
    assert "first a:" in bench.failure(run).description
    assert recorded(bench, run)[INDEX] == {"b"}
