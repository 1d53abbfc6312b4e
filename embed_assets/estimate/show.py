"""A plan as JSON and as Dagster metadata, and its figures as text."""

import dataclasses
from typing import Any

import dagster as dg

from embed_assets.estimate.build import Plan, usd, value_of
from embed_assets.estimate.estimate import Offer
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


def speed(one: Offer) -> str:
    return UNKNOWN if one.tokens_per_second is None else f"{ranged(one.tokens_per_second)} {one.tokens_per_second.how}"


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
            one.accelerator, speed(one), ranged(one.hours),
            ranged(one.spot_usd, before="$"), ranged(one.on_demand_usd, before="$"),
            UNKNOWN if one.recommended_strides is None else f"{one.recommended_strides:,}",
        ]  # fmt: skip
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join([*lines, "", *(f"- {note}" for note in plan.notes)])
