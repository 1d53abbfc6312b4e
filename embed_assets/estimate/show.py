"""A plan for people and for programs: Rich tables, plain JSON, Dagster metadata."""

import dataclasses
from typing import Any

import dagster as dg
from rich.console import Console
from rich.table import Table
from rich.text import Text

from embed_assets.estimate.build import Plan, usd, value_of
from embed_assets.estimate.estimate import Offer, total
from embed_assets.estimate.figures import Figure

UNKNOWN = "unknown"
UNITS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e4, "k"))


def number(value: float) -> str:
    """Three significant digits with a unit: `2.95 G`."""
    for size, unit in UNITS:
        if value >= size:
            return f"{value / (1e3 if unit == 'k' else size):.3g} {unit}"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def ranged(figure: Figure | None, unit: str = "", before: str = "") -> str:
    """Value and range, such as `$277 (180 … 420)`; `unknown` without a figure."""
    if figure is None:
        return UNKNOWN
    text = f"{before}{number(figure.value)}{unit}"
    return f"{text} ({number(figure.low)} … {number(figure.high)})" if figure.is_range else text


def print_plans(console: Console, plans: list[Plan], budget: float | None) -> None:
    for plan in plans:
        console.print(_work_table(plan))
        console.print(_offers_table(plan))
        console.print(_jobs_table(plan))
        if (best := plan.best) is not None and best.wall_hours:
            console.print(_wall_table(best))
        for note in plan.notes:
            console.print(Text(f"· {note}", style="dim"))
        console.print()
    best_total = total([None if plan.best is None else usd(plan.best) for plan in plans])
    if best_total is not None and len(plans) > 1:
        console.print(Text(f"all {len(plans)} datasets, each on its cheapest: {ranged(best_total, before='$')}"))
    if budget is not None and best_total is not None:
        over = best_total.value > budget
        verdict = "above it: the rest will not be launched" if over else "within it"
        console.print(Text(f"budget_usd {budget:,.2f}: {verdict}", style="red" if over else "green"))
    elif budget is not None:
        console.print(Text(f"budget_usd {budget:,.2f}: cannot be held against it, no price is known", style="red"))


def _work_table(plan: Plan) -> Table:
    todo, counts = plan.todo, plan.counts
    table = Table(title=Text(f"{plan.pipeline} / {plan.dataset}"), title_justify="left")
    for name in ("what", "expected (range)", "how known"):
        table.add_column(name)
    table.add_row("rows", ranged(todo.rows), todo.rows.how)
    table.add_row("tokens per row", ranged(counts.tokens_per_row), counts.tokens_per_row.how)
    if counts.percentiles:
        spread = ", ".join(f"{name} {value:g}" for name, value in counts.percentiles.items())
        table.add_row("  their spread", spread, f"{counts.sample:,} rows")
    table.add_row("tokens", ranged(todo.tokens), todo.tokens.how)
    table.add_row("windows (vectors)", ranged(todo.windows), todo.windows.how)
    duplicates = UNKNOWN if counts.duplicates is None else f"{counts.duplicates:.2%}"
    table.add_row("duplicate windows", duplicates, UNKNOWN if counts.duplicates is None else "sampled")
    table.add_row("parameters", ranged(plan.model.parameters), Text(plan.model.how))
    output = todo.output_bytes
    table.add_row("bytes of output", ranged(output, "B"), UNKNOWN if output is None else output.how)
    load = plan.starts.load_seconds
    table.add_row("model loading, a job", ranged(load, " s"), load.how)
    table.add_row("set-up before it, a job", f"{plan.starts.start_seconds:g} s", "stated or default")
    table.add_row("strides (jobs)", f"{plan.strides:,}", "the pipeline")
    return table


def _offers_table(plan: Plan) -> Table:
    table = Table(title=Text("on each kind of machine"), title_justify="left")
    for name in ("machine", "tokens/s", "hours", "spot", "on demand"):
        table.add_column(name, justify="left" if name == "machine" else "right")
    for one in plan.offers:
        best = plan.best is not None and one.accelerator == plan.best.accelerator
        table.add_row(
            Text(one.accelerator, style="bold green" if best else ""),
            _speed(one),
            ranged(one.hours),
            _priced(one.spot_usd, one.spot),
            _priced(one.on_demand_usd, one.on_demand),
        )
    return table


def _jobs_table(plan: Plan) -> Table:
    table = Table(title=Text(f"its {plan.strides:,} jobs"), title_justify="left")
    for name in ("machine", "a job", "model loading", "strides for ≤ 3 %", "checkpoint", "a preemption"):
        table.add_column(name, justify="left" if name == "machine" else "right")
    for one in plan.offers:
        if one.hours is not None:
            table.add_row(
                Text(one.accelerator),
                _hours(one.hours.value / plan.strides),
                UNKNOWN if one.load_share is None else f"{one.load_share:.1%}",
                "any" if one.recommended_strides is None else f"{one.recommended_strides:,}",
                _hours((one.checkpoint_seconds or 0.0) / 3600),
                _hours((one.preemption_seconds or 0.0) / 3600),
            )
    return table


def _speed(one: Offer) -> str:
    return UNKNOWN if one.tokens_per_second is None else f"{ranged(one.tokens_per_second)} {one.tokens_per_second.how}"


def _priced(cost: Figure | None, hourly: float | None) -> str:
    return UNKNOWN if hourly is None else f"{ranged(cost, before='$')} at ${hourly:.3g}/h"


def _wall_table(best: Offer) -> Table:
    table = Table(title=Text(f"wall time on {best.accelerator}, by jobs at once"), title_justify="left")
    for jobs in best.wall_hours:
        table.add_column(f"{jobs:,}", justify="right")
    table.add_row(*(_hours(hours.value) for hours in best.wall_hours.values()))
    return table


def _hours(hours: float) -> str:
    if hours < 1 / 60:
        return f"{hours * 3600:.0f} s"
    return f"{hours * 60:.0f} min" if hours < 2 else f"{hours:,.1f} h"


def as_json(plan: Plan) -> dict[str, Any]:
    """Unknown is null; `how` says of each figure how well it is known."""
    value: dict[str, Any] = dataclasses.asdict(plan)
    value["best"] = plan.best.accelerator if plan.best else None
    return value


def as_metadata(plan: Plan) -> dict[str, Any]:
    """For `stride_partitions`: the dataset's plan beside each of its strides. Unknown prices say so."""
    best = plan.best
    found: dict[str, Any] = {
        "plan": dg.MetadataValue.md(as_markdown(plan)),
        "plan_tokens_per_row": round(plan.counts.tokens_per_row.value, 2),
        "plan_tokens": round(plan.todo.tokens.value / plan.strides),
    }
    if best is None or best.hours is None:
        return found
    found["plan_hours"] = round(best.hours.value / plan.strides, 5)
    cost = usd(best)
    found["plan_usd"] = round(cost.value / plan.strides, 5) if cost else f"unknown: {best.reason}"
    return found


def as_markdown(plan: Plan) -> str:
    todo = plan.todo
    lines = [
        f"**{plan.dataset}, all {plan.strides:,} strides:** {ranged(todo.rows)} rows, {ranged(todo.tokens)} tokens, "
        f"{ranged(todo.windows)} vectors, {ranged(todo.output_bytes, 'B')} of output",
        "",
        "| machine | tokens/s | hours | spot | on demand | strides for ≤ 3 % loading |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for one in sorted(plan.offers, key=lambda offer: value_of(usd(offer))):
        cells = [
            one.accelerator, _speed(one), ranged(one.hours),
            ranged(one.spot_usd, before="$"), ranged(one.on_demand_usd, before="$"),
            UNKNOWN if one.recommended_strides is None else f"{one.recommended_strides:,}",
        ]  # fmt: skip
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join([*lines, "", *(f"- {note}" for note in plan.notes)])
