"""A plan as tables in a terminal."""

from rich.console import Console
from rich.table import Table

from embed_assets.estimate.build import Plan, usd
from embed_assets.estimate.estimate import Offer, total
from embed_assets.estimate.figures import Figure
from embed_assets.estimate.show import UNKNOWN, ranged, speed
from embed_assets.tell.terminal import shown


def print_plans(console: Console, plans: list[Plan], budget: float | None) -> None:
    for plan in plans:
        console.print(_work_table(plan))
        console.print(_offers_table(plan))
        console.print(_jobs_table(plan))
        if (best := plan.best) is not None and best.wall_hours:
            console.print(_wall_table(best))
        for note in plan.notes:
            console.print(shown(f"· {note}", style="dim"))
        console.print()
    best_total = total([None if plan.best is None else usd(plan.best) for plan in plans])
    if best_total is not None and len(plans) > 1:
        console.print(shown(f"all {len(plans)} datasets, each on its cheapest: {ranged(best_total, before='$')}"))
    if budget is not None and best_total is not None:
        over = best_total.value > budget
        verdict = "above it: the rest will not be launched" if over else "within it"
        console.print(shown(f"budget_usd {budget:,.2f}: {verdict}", style="red" if over else "green"))
    elif budget is not None:
        console.print(shown(f"budget_usd {budget:,.2f}: cannot be held against it, no price is known", style="red"))


def _work_table(plan: Plan) -> Table:
    todo, counts = plan.todo, plan.counts
    table = Table(title=shown(f"{plan.pipeline} / {plan.dataset}"), title_justify="left")
    for name in ("what", "expected (range)", "how known"):
        table.add_column(name)
    table.add_row("rows", ranged(todo.rows), shown(todo.rows.how))
    table.add_row("tokens per row", ranged(counts.tokens_per_row), shown(counts.tokens_per_row.how))
    if counts.percentiles:
        spread = ", ".join(f"{name} {value:g}" for name, value in counts.percentiles.items())
        table.add_row("  their spread", spread, f"{counts.sample:,} rows")
    table.add_row("tokens", ranged(todo.tokens), todo.tokens.how)
    table.add_row("windows (vectors)", ranged(todo.windows), todo.windows.how)
    duplicates = UNKNOWN if counts.duplicates is None else f"{counts.duplicates:.2%}"
    table.add_row("duplicate windows", duplicates, UNKNOWN if counts.duplicates is None else "sampled")
    table.add_row("parameters", ranged(plan.model.parameters), shown(plan.model.how))
    output = todo.output_bytes
    table.add_row("bytes of output", ranged(output, "B"), UNKNOWN if output is None else output.how)
    load = plan.starts.load_seconds
    table.add_row("model loading, a job", ranged(load, " s"), load.how)
    table.add_row("set-up before it, a job", f"{plan.starts.start_seconds:g} s", "stated or default")
    table.add_row("strides (jobs)", f"{plan.strides:,}", "the pipeline")
    return table


def _offers_table(plan: Plan) -> Table:
    table = Table(title=shown("on each kind of machine"), title_justify="left")
    for name in ("machine", "tokens/s", "hours", "spot", "on demand"):
        table.add_column(name, justify="left" if name == "machine" else "right")
    for one in plan.offers:
        best = plan.best is not None and one.accelerator == plan.best.accelerator
        table.add_row(
            shown(one.accelerator, style="bold green" if best else ""),
            speed(one),
            ranged(one.hours),
            _priced(one.spot_usd, one.spot),
            _priced(one.on_demand_usd, one.on_demand),
        )
    return table


def _jobs_table(plan: Plan) -> Table:
    table = Table(title=shown(f"its {plan.strides:,} jobs"), title_justify="left")
    for name in ("machine", "a job", "model loading", "strides for ≤ 3 %", "checkpoint", "a preemption"):
        table.add_column(name, justify="left" if name == "machine" else "right")
    for one in plan.offers:
        if one.hours is not None:
            table.add_row(
                shown(one.accelerator),
                _hours(one.hours.value / plan.strides),
                UNKNOWN if one.load_share is None else f"{one.load_share:.1%}",
                "any" if one.recommended_strides is None else f"{one.recommended_strides:,}",
                _hours((one.checkpoint_seconds or 0.0) / 3600),
                _hours((one.preemption_seconds or 0.0) / 3600),
            )
    return table


def _priced(cost: Figure | None, hourly: float | None) -> str:
    return UNKNOWN if hourly is None else f"{ranged(cost, before='$')} at ${hourly:.3g}/h"


def _wall_table(best: Offer) -> Table:
    table = Table(title=shown(f"wall time on {best.accelerator}, by jobs at once"), title_justify="left")
    for jobs in best.wall_hours:
        table.add_column(f"{jobs:,}", justify="right")
    table.add_row(*(_hours(hours.value) for hours in best.wall_hours.values()))
    return table


def _hours(hours: float) -> str:
    if hours < 1 / 60:
        return f"{hours * 3600:.0f} s"
    return f"{hours * 60:.0f} min" if hours < 2 else f"{hours:,.1f} h"
