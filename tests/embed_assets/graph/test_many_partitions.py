"""Many partitions in one Dagster run, against a simulated fleet behind the compute protocol.

The asset, the driver, the lake and the worker's commit are the real ones; only the waiting is simulated.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow.parquet as pq
import pytest
from dagster._core.definitions.automation_tick_evaluation_context import build_run_requests_with_backfill_policies
from dagster._core.definitions.events import AssetKeyPartitionKey
from dagster._core.storage.tags import ASSET_PARTITION_RANGE_END_TAG, ASSET_PARTITION_RANGE_START_TAG

from bench.cloud import Cloud, Weather, serving
from bench.fleet import SimulatedFleetResource
from embed_assets.checks.shard import SHARD_CHECKS
from embed_assets.deployment import deployed
from embed_assets.settings import Settings
from tests.kits import pipelines as kit

pytestmark = pytest.mark.slow

SHARDS = dg.AssetKey(["p", "embedding_shards"])
FAST: dict[str, Any] = {
    "slots": 12,
    "poll_seconds": 0.2,
    "queue_seconds": (0.0, 0.1),
    "run_seconds": (0.0, 0.6),
    "recover_seconds": 0.2,
    "preempted": 0.2,
    "failing_once": 0.1,
}


@dataclass
class FleetBench:
    """A pipeline of one dataset in a lake and an instance of its own."""

    lake: Path
    source: Path
    strides: int
    socket: str
    instance: dg.DagsterInstance

    def definitions(self, per_run: int = 100) -> dg.Definitions:
        pipeline = kit.pipeline([kit.dataset(str(self.source), strides=self.strides)])
        settings = Settings(lake=str(self.lake), partitions_per_run=per_run)
        return deployed([pipeline], settings, SimulatedFleetResource(address=self.socket))

    def run(self, asset: str, first: str, last: str | None = None) -> dg.ExecuteInProcessResult:
        """A run over a range of partitions, or over one."""
        tags = {ASSET_PARTITION_RANGE_START_TAG: first, ASSET_PARTITION_RANGE_END_TAG: last or first}
        return (
            self.definitions()
            .resolve_implicit_global_asset_job_def()
            .execute_in_process(
                instance=self.instance,
                asset_selection=[dg.AssetKey(["p", asset])],
                tags=tags if last else None,
                partition_key=None if last else first,
                raise_on_error=False,
            )
        )

    @contextlib.contextmanager
    def fleet(self, **weather: Any) -> Iterator[Cloud]:
        cloud = Cloud(Weather(**{**FAST, **weather}))
        with serving(cloud, self.socket):
            yield cloud

    def keys(self) -> list[str]:
        return [f"d-{stride:05d}" for stride in range(self.strides)]

    def rows_in_lake(self) -> list[int]:
        paths = sorted(self.lake.glob("embedding_shards/d/*/*/*/*/part-*.parquet"))
        return sorted(int(id_) for path in paths for id_ in pq.read_table(path, columns=["id"])["id"].to_pylist())


@pytest.fixture
def bench(tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[FleetBench]:
    strides = request.param
    source = kit.write_jsonl(tmp_path / "source.jsonl", kit.texts(3 * strides + 1))
    socket = tmp_path / "s"
    monkeypatch.chdir(tmp_path)  # a Unix socket's name is short
    (tmp_path / "home").mkdir()
    with dg.DagsterInstance.local_temp(str(tmp_path / "home")) as instance:
        bench = FleetBench(tmp_path / "lake", source, strides, socket.name, instance)
        assert bench.run("raw_reviews", "d").success
        assert bench.run("stride_partitions", bench.keys()[0], bench.keys()[-1]).success
        yield bench


def events(instance: dg.DagsterInstance, run_id: str, kind: dg.DagsterEventType) -> list[Any]:
    return [entry.dagster_event for entry in instance.all_logs(run_id, of_type=kind)]


def made(bench: FleetBench, run_id: str) -> dict[str, bool]:
    """Partition → adopted, of every materialization of a run; each partition once."""
    found = events(bench.instance, run_id, dg.DagsterEventType.ASSET_MATERIALIZATION)
    found = [event for event in found if event.asset_key == found[0].asset_key]  # not the set that shards complete
    names = [event.partition for event in found]
    assert len(names) == len(set(names)), "a partition has two events"
    details = [event.step_materialization_data.materialization.metadata["details"].value for event in found]
    return dict(zip(names, (one["adopted"] for one in details), strict=True))


def passed_checks(bench: FleetBench, run_id: str) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for event in events(bench.instance, run_id, dg.DagsterEventType.ASSET_CHECK_EVALUATION):
        evaluation = event.asset_check_evaluation_data
        assert evaluation.passed, f"{evaluation.partition}: {evaluation.check_name}: {evaluation.description}"
        found.setdefault(evaluation.partition, set()).add(evaluation.check_name)
    return found


@pytest.mark.parametrize("bench", [60], indirect=True)
def test_partial_failure_then_only_the_rest(bench: FleetBench) -> None:
    keys = bench.keys()
    bad = [keys[7], keys[41]]
    good = set(keys) - set(bad)

    with bench.fleet(refused=tuple(bad)) as cloud:
        first = bench.run("embedding_shards", keys[0], keys[-1])
    assert not first.success
    assert made(bench, first.run_id) == dict.fromkeys(good, False)
    assert passed_checks(bench, first.run_id) == {key: set(SHARD_CHECKS) for key in good}
    assert bench.instance.get_materialized_partitions(SHARDS) == good

    (failure,) = events(bench.instance, first.run_id, dg.DagsterEventType.STEP_FAILURE)
    told = failure.step_failure_data.user_failure_data
    assert "2 of 60 partitions failed" in told.description
    table = told.metadata["failed_partitions"]
    assert {record.data["partition"] for record in table.records} == set(bad)
    assert all("no such model" in record.data["error"] for record in table.records)

    stats = cloud.stats()
    assert stats["recoveries"] > 0, "the weather was to preempt some"
    assert max(stats["launched"].values()) == 2, "the weather was to fail some once"
    assert all(stats["launched"][key] == 1 for key in bad), "what no attempt can make is not tried again"
    assert stats["calls"]["find"] == 1
    begun, ended = stats["polls"][0], stats["polls"][-1]
    assert len(stats["polls"]) - 1 <= (ended - begun) / FAST["poll_seconds"], "more than one poll an interval"

    with bench.fleet() as cloud:
        second = bench.run("embedding_shards", keys[0], keys[-1])
    assert second.success
    assert set(cloud.stats()["launched"]) == set(bad), "re-execution does only the rest"
    assert made(bench, second.run_id) == dict.fromkeys(good, True) | dict.fromkeys(bad, False)
    assert passed_checks(bench, second.run_id) == {key: set(SHARD_CHECKS) for key in keys}
    assert bench.rows_in_lake() == list(range(3 * 60 + 1)), "a row is lost or doubled"


@pytest.mark.parametrize("bench", [2], indirect=True)
def test_one_partition_a_run(bench: FleetBench) -> None:
    first, second = bench.keys()
    with bench.fleet() as cloud:
        result = bench.run("embedding_shards", first)
        assert result.success
        assert list(cloud.stats()["launched"]) == [first]
    assert made(bench, result.run_id) == {first: False}
    assert passed_checks(bench, result.run_id) == {first: set(SHARD_CHECKS)}
    assert bench.instance.get_materialized_partitions(SHARDS) == {first}
    assert second not in bench.instance.get_materialized_partitions(SHARDS)


@pytest.mark.parametrize("bench", [10], indirect=True)
def test_partitions_turn_green_at_their_own_commit(bench: FleetBench) -> None:
    keys = bench.keys()
    with bench.fleet(slots=2, run_seconds=(0.3, 0.5), preempted=0, failing_once=0):
        result = bench.run("embedding_shards", keys[0], keys[-1])
    assert result.success
    told = [
        entry.timestamp
        for entry in bench.instance.all_logs(result.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION)
    ]
    committed = sorted(p.stat().st_mtime for p in bench.lake.glob("embedding_shards/d/*/*/*/*/_manifest.json"))
    assert min(told) < committed[-1], "the first partition is told while the last is still being made"


@pytest.mark.parametrize("bench", [10], indirect=True)
@pytest.mark.parametrize(("per_run", "sizes"), [(1, [1] * 10), (4, [4, 4, 2]), (100, [10])])
def test_backfill_takes_k_partitions_a_run(bench: FleetBench, per_run: int, sizes: list[int]) -> None:
    graph = bench.definitions(per_run).resolve_asset_graph()
    keys = bench.keys()
    wanted = [AssetKeyPartitionKey(SHARDS, key) for key in keys]
    requests = build_run_requests_with_backfill_policies(
        asset_partitions=wanted, asset_graph=graph, dynamic_partitions_store=bench.instance
    )
    found = []
    for request in requests:
        if request.partition_key:
            found.append(1)
        else:
            first, last = (request.tags[t] for t in (ASSET_PARTITION_RANGE_START_TAG, ASSET_PARTITION_RANGE_END_TAG))
            found.append(keys.index(last) - keys.index(first) + 1)
    assert sorted(found, reverse=True) == sizes
