"""A budget that does not cover a run."""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from embed_assets.deployment import deployed
from embed_assets.settings import Settings
from embed_assets.spec.pipeline import HourlyPrice, PlanAssumptions
from tests.kits import pipelines as kit
from tests.kits.compute.in_process import InProcessCompute
from tests.kits.error_table.registry import provokes
from tests.kits.error_table.scene import Scene
from tests.kits.graph_bench import SHARDS


def limited(scene: Scene, dollars: float | None, plan: dict[str, Any]) -> None:
    """The scene's pipeline with a budget, as a deployment on SkyPilot reads it."""

    def definitions() -> dg.Definitions:
        dataset = kit.dataset(str(scene.source), name="a", strides=2)
        pipeline = kit.pipeline([dataset], plan=PlanAssumptions(**plan), budget_usd=dollars)
        settings = Settings(lake=str(scene.bench.lake), compute="skypilot", max_attempts=1)
        return deployed([pipeline], settings, InProcessCompute())

    scene.patch.setenv("EMBED_SKY_ACCELERATORS", "L4")
    scene.patch.setattr(scene.bench, "definitions", definitions)
    assert scene.ready


@provokes("not launched: … are expected, of budget_usd", "raise budget_usd, and materialize them again")
def too_small_a_budget(scene: Scene) -> Iterator[str]:
    price = {"L4": HourlyPrice(spot=0.5, on_demand=1.0)}
    plan = {"usd_per_hour": price, "tokens_per_second": {"L4": 100.0}, "start_seconds": 0.0, "load_seconds": 1e-6}
    limited(scene, 0.000001, plan)
    yield scene.told(SHARDS)
    limited(scene, 100.0, plan)
    scene.made(SHARDS)


@provokes("not launched: … but what a job costs is not known", "state plan.usd_per_hour and plan.tokens_per_second")
def a_budget_without_prices(scene: Scene) -> Iterator[str]:
    scene.patch.setenv("EMBED_SKY_INFRA", "slurm/lab")
    limited(scene, 1.0, {"tokens_per_second": {"L4": 100.0}, "start_seconds": 0.0, "load_seconds": 1e-6})
    yield scene.told(SHARDS)
    limited(scene, None, {})
    scene.made(SHARDS)
