"""The markdown on a materialization: a small table, a picture, links."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from embed_assets.estimate.sample import Sample, sample_snapshot
from embed_assets.tell.pictures import histogram, image, log_bins, sparkline
from embed_worker.lake.figures import figures_of
from embed_worker.lake.manifests import ShardManifest
from embed_worker.lake.snapshots import RawManifest
from embed_worker.lake.store import Store
from resources.facts import JobFacts

LENGTHS_SAMPLE = 20_000


def shard_summary(manifest: ShardManifest, facts: JobFacts, links: Mapping[str, str], rates: Sequence[float]) -> str:
    """`facts`: of the job; `links`: name → address; `rates`: tokens a second of the run's partitions, this one last."""
    figures = figures_of(manifest)
    starts = f"{figures.starts}"
    if recoveries := facts.recoveries:
        starts += f" ({recoveries} recoveries)"
    where = (figures.machine, facts.infra, _market(facts))
    rows = {
        "rows": f"{manifest.rows_embedded:,} embedded, {manifest.rows_reused:,} reused, "
        f"{manifest.rows_rejected:,} rejected",
        "vectors": f"{manifest.windows:,} × {manifest.dimension or 0} {manifest.dtype}",
        "tokens": f"{manifest.tokens:,}",
        "speed": f"{figures.tokens_per_second or 0:,.0f} tokens/s, {figures.rows_per_second or 0:,.0f} rows/s",
        "machine": "none: composed of earlier shards" if manifest.engine_of else " · ".join(filter(None, where)),
        "starts": starts,
    }
    if facts.priced:
        rows["cost"] = _cost(facts)
    lines = ["| | |", "|---|---|", *(f"| {name} | {_cell(value)} |" for name, value in rows.items()), ""]
    if any(rates):
        lines += [f"tokens/s of the last {len(rates)} partitions of this run, this one last:", ""]
        lines += [image(sparkline(rates), f"tokens per second: {', '.join(f'{rate:,.0f}' for rate in rates[-5:])}"), ""]
    web = [f"[{name}]({address})" for name, address in links.items() if address.startswith(("http://", "https://"))]
    if web:
        lines.append(" · ".join(web))
    lines += [f"{name}: `{address}`" for name, address in links.items() if not address.startswith("http")]
    return "\n".join(lines)


def lengths_metadata(store: Store, raw: RawManifest) -> dict[str, Any]:
    """Lengths of a snapshot's texts in characters, from a sample where there are many: figures and a histogram."""
    sample = sample_snapshot(store, raw, LENGTHS_SAMPLE)
    if not sample.texts:
        return {}
    lengths = np.asarray([len(text) for text in sample.texts])
    names = {"median": 50, "p95": 95, "p99": 99}
    figures = {f"characters_{name}": float(np.percentile(lengths, at)) for name, at in names.items()}
    return {"characters_mean": round(float(lengths.mean()), 2), **figures, "text_lengths": _histogram(sample, lengths)}


def _histogram(sample: Sample, lengths: np.ndarray) -> str:
    edges, counts = log_bins(lengths.tolist())
    alt = ", ".join(f"{number:,} under {edge:,.0f}" for edge, number in zip(edges[1:], counts, strict=True) if number)
    picture = image(histogram(edges, counts, "characters of a text"), alt)
    return f"{picture}\n\n{sample.origin}"


def _market(facts: JobFacts) -> str:
    return "" if facts.spot is None else "spot" if facts.spot else "on demand"


def _cost(facts: JobFacts) -> str:
    cost, on_demand = facts.cost_dollars, facts.on_demand_dollars
    if cost is None:
        return f"unknown: {facts.unknown['cost_dollars']}"
    text = f"${cost:,.4f}"
    return f"{text} (on demand ${on_demand:,.4f})" if on_demand is not None else f"{text} (on demand unknown)"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
