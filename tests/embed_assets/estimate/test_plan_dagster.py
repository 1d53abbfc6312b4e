"""Plan, budget and cost as Dagster shows them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import dagster as dg
import pytest

from embed_assets.deployment import deployed
from embed_assets.settings import Settings
from embed_assets.spec.pipeline import HourlyPrice, PlanAssumptions
from resources.compute import JobHandle, JobStatus
from resources.facts import JobFacts
from tests.kits import pipelines as kit
from tests.kits.compute.in_process import InProcess, InProcessCompute
from tests.kits.lake.away import AwayLake

pytestmark = pytest.mark.slow

RANGE = ("dagster/asset_partition_range_start", "dagster/asset_partition_range_end")
PRICED = PlanAssumptions(
    usd_per_hour={"L4": HourlyPrice(spot=0.5, on_demand=1.0)},
    tokens_per_second={"L4": 100.0},
    start_seconds=0.0,
    load_seconds=1e-6,
)


class Priced(InProcess):
    """Jobs in this process that say what they cost."""

    dollars: ClassVar[float] = 1.0

    def poll(self, handles: Any) -> dict[JobHandle, JobStatus]:
        found = super().poll(handles)
        for handle, status in found.items():
            status.facts = JobFacts(id=handle.id, cost_dollars=self.dollars, on_demand_dollars=2.5, spot=True)
        return found


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.local_temp(str(tmp_path)) as made:
        yield made


def run_all(
    tmp_path: Path, source: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch, budget: float | None
) -> dict[str, tuple[bool, dict[str, dict[str, Any]], str]]:
    """Asset → success, metadata by partition, log."""
    monkeypatch.setattr(InProcessCompute, "backend", Priced)
    monkeypatch.setenv("EMBED_SKY_ACCELERATORS", "L4")
    pipeline = kit.pipeline([kit.dataset(str(source))], plan=PRICED, budget_usd=budget)
    settings = Settings(
        lake=str(tmp_path / "lake"), compute="skypilot", monitor_url="http://127.0.0.1:8000", max_attempts=1
    )
    job = deployed([pipeline], settings, InProcessCompute()).resolve_implicit_global_asset_job_def()
    found = {}
    for asset, first, last in (
        ("raw_reviews", "d", "d"),
        ("stride_partitions", "d-00000", "d-00002"),
        ("embedding_shards", "d-00000", "d-00002"),
        ("vector_index", "d", None),
    ):
        if asset == "vector_index" and budget:
            break
        done = job.execute_in_process(
            instance=instance, asset_selection=[dg.AssetKey(["p", asset])], raise_on_error=False,
            tags=dict(zip(RANGE, (first, last), strict=True)) if last else None, partition_key=None if last else first,
        )  # fmt: skip
        entries = instance.all_logs(done.run_id)
        made = [e.dagster_event for e in entries if e.dagster_event and e.dagster_event.is_step_materialization]
        made = [event for event in made if event.asset_key == dg.AssetKey(["p", asset])]  # not the set of the shards
        metadata = {
            str(e.partition): {k: v.value for k, v in e.step_materialization_data.materialization.metadata.items()}
            for e in made
        }
        for data in metadata.values():
            data |= data["details"]
        found[asset] = (done.success, metadata, "\n".join(entry.user_message for entry in entries))
    return found


def test_plan_lengths_summary_and_total_cost(
    tmp_path: Path, source: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = run_all(tmp_path, source, instance, monkeypatch, None)
    assert all(success for success, _, _ in found.values())
    raw = found["raw_reviews"][1]["d"]
    assert "data:image/svg+xml" in raw["text_lengths"] and raw["characters_mean"] > 10
    strides = found["stride_partitions"][1]
    tokens = sum(len(record["text"].encode()) + 2 for record in kit.texts(20))
    assert strides["d-00000"]["plan_tokens"] == round(tokens / 3)
    assert strides["d-00002"]["plan_usd"] == pytest.approx(tokens / 100 / 3600 * 0.5 / 3, rel=0.01)
    assert "| L4 |" in strides["d-00000"]["plan"] and "plan" not in strides["d-00001"]
    shards = found["embedding_shards"][1]
    assert sum(one["tokens"] for one in shards.values()) == tokens, "the plan's tokens are the worker's"
    for one in shards.values():
        assert (one["job_cost_dollars"], one["job_on_demand_dollars"], one["job_saved_dollars"]) == (1.0, 2.5, 1.5)
        assert one["dollars_per_million_tokens"] == pytest.approx(1e6 / one["tokens"])
        assert "on demand $2.5000" in one["summary"] and "[page](http://127.0.0.1:8000)" in one["summary"]
    assert "cost of this run: $3 for 3 jobs; on demand $7.5, 60% saved" in found["embedding_shards"][2]
    index = found["vector_index"][1]["d"]
    assert (index["cost_dollars"], index["on_demand_dollars"], index["cost_jobs_unknown"]) == (3.0, 7.5, 0)


def test_a_backfill_above_the_budget_fails_with_the_figures(
    tmp_path: Path, source: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    success, made, log = run_all(tmp_path, source, instance, monkeypatch, 0.0001)["embedding_shards"]
    assert not success and not made
    assert "budget_usd is $0.00: $0.00 spent by 0 jobs" in log and "(projected for L4 by the plan)" in log
    assert "0 jobs of this run were launched, 3 partitions are not: raise budget_usd" in log
    assert log.count(": not launched: $0.00 are expected") == 3


def test_a_cost_that_cannot_be_read_fails_no_index(
    tmp_path: Path, source: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without_costs(root: str) -> AwayLake:
        lake = AwayLake(root)
        lake.store.away = "costs/"
        return lake

    monkeypatch.setattr("embed_assets.reading.resource.Lake", without_costs)
    success, made, _ = run_all(tmp_path, source, instance, monkeypatch, None)["vector_index"]
    assert success and made["d"]["dagster/partition_row_count"] == 20
    assert made["d"]["cost"].startswith("unknown: costs/p: the store cannot be reached")
