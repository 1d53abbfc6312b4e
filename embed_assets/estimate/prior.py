"""Dollars a row before any job of a spec has ended: what the plan says of the machine that is tried first."""

from collections.abc import Callable

from embed_assets.estimate.account import PerRow, Prior
from embed_assets.estimate.budget import RunBudget
from embed_assets.estimate.build import make_plan, quotes_for
from embed_assets.settings import Settings
from embed_assets.spec import EmbeddingPipeline
from resources.lake import Lake
from resources.skypilot.prices import Wanted, wanted
from resources.skypilot.settings import SkyPilotFields, SkyPilotSettings

SAMPLE_ROWS = 1024


def prior_of(lake: Lake, pipeline: EmbeddingPipeline, settings: SkyPilotFields) -> Prior:
    """Samples a dataset and asks for prices when it is called, not before."""

    def ask(dataset: str) -> PerRow:
        try:
            own = [Wanted(name, price.spot is not None) for name, price in pipeline.plan.usd_per_hour.items()]
            first = [*wanted(settings), *own]
            quotes = quotes_for(pipeline, settings)
            names = [one.accelerator for one in first]
            plan = make_plan(lake, pipeline, pipeline.dataset(dataset), names, quotes, sample_rows=SAMPLE_ROWS)
        except Exception as error:  # of sampling, prices, the tokenizer: then it is not known
            return None, f"no projection: {' '.join(str(error).split())[:300]}"
        for one in first:
            offer = next(o for o in plan.offers if o.accelerator == one.accelerator)
            cost = (offer.spot_usd if one.spot else None) or offer.on_demand_usd
            if cost is not None and plan.todo.rows.value:
                return cost.value / plan.todo.rows.value, f"projected for {one.accelerator} by the plan"
        reasons = sorted({offer.reason for offer in plan.offers if offer.reason})
        return None, f"no projection: {'; '.join(reasons) or 'the task names no accelerator'}"

    return ask


def run_budget(lake: Lake, pipeline: EmbeddingPipeline, settings: Settings, say: Callable[[str], object]) -> RunBudget:
    """What one run of the pipeline may spend."""
    limit = pipeline.budget_usd
    if limit is not None and settings.compute == "local":
        say("budget_usd does not bind: jobs on this machine have no price")
        limit = None
    return RunBudget(lake, pipeline.name, limit, prior_of(lake, pipeline, SkyPilotSettings()))
