"""What `embed-assets plan` does."""

from collections.abc import Sequence
from typing import Any

from embed_assets.cli.common import chosen
from embed_assets.cli.plan_tables import print_plans
from embed_assets.estimate.build import accelerators_of, make_plan, quotes_for
from embed_assets.estimate.show import as_json
from embed_assets.settings import deployment
from embed_assets.spec import EmbeddingPipeline
from embed_assets.tell.terminal import CommandError, console, shown
from resources.skypilot.settings import SkyPilotSettings


def plan(
    pipeline: str | None,
    dataset: str | None,
    accelerators: str | None,
    speeds: Sequence[str],
    prices: bool,
    sample: int,
    as_json_text: bool,
    **stated: Any,
) -> None:
    """`stated`: keys of the pipeline's `plan` that the command line sets; None leaves the file's."""
    settings, pipelines, lake = deployment()
    pipelines = chosen(pipelines, pipeline)
    sky = SkyPilotSettings()
    told = {}
    for one in (_with(p, speeds, stated) for p in pipelines):
        names = [dataset] if dataset else [d.name for d in one.datasets]
        if dataset and dataset not in {d.name for d in one.datasets}:
            continue
        kinds = _accelerators(accelerators) if accelerators else accelerators_of(one, sky, settings.compute)
        quotes = quotes_for(one, sky, prices)
        with console.status(shown(f"planning {one.name} …")):
            local = settings.compute == "local"
            plans = [
                make_plan(lake, one, one.dataset(n), kinds, quotes, sample_rows=sample, local=local) for n in names
            ]
        told[one.name] = [as_json(p) for p in plans]
        if not as_json_text:
            print_plans(console, plans, one.budget_usd)
    if not told:
        raise CommandError(f"no pipeline has a dataset {dataset!r}")
    if as_json_text:
        console.print_data([plan for plans in told.values() for plan in plans])


def _accelerators(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        kind, colon, number = name.partition(":")
        if not kind or (colon and not (number.isdigit() and int(number))):
            raise CommandError(f"--accelerators {name!r}: write it as L4 or L4:2")
    return names


def _with(pipeline: EmbeddingPipeline, speeds: Sequence[str], stated: dict[str, Any]) -> EmbeddingPipeline:
    given = {key: value for key, value in stated.items() if value is not None}
    rates = dict(pipeline.plan.tokens_per_second)
    for text in speeds:
        name, _, rate = text.partition("=")
        try:
            rates[name.strip()] = float(rate)
        except ValueError as error:
            raise CommandError(f"--tokens-per-second {text!r}: write it as L4=2000") from error
    merged = {**pipeline.plan.model_dump(), **given, "tokens_per_second": rates}
    return pipeline.model_copy(update={"plan": type(pipeline.plan).model_validate(merged)})
