"""What `embed-assets plan` says after one committed partition, against what all of them then took.

`python -m bench.plan` reads the demo's lake as `make demo` left it, and writes bench/results/plan.json.
"""

import json
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.control_plane import machine as machine_facts
from bench.report import write_section
from embed_assets.estimate import speed
from embed_assets.estimate.build import make_plan, quotes_for
from embed_assets.estimate.figures import Figure
from embed_assets.spec import DatasetSpec, EmbeddingPipeline, load_pipeline
from embed_worker.lake.layout import ShardId
from embed_worker.lake.manifests import ShardManifest
from resources.lake import Lake
from resources.skypilot.settings import SkyPilotSettings

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "bench" / "results" / "plan.json"
SAMPLE_ROWS = 1000


def main() -> None:
    os.chdir(ROOT)  # the demo's paths are relative to it
    pipeline, lake = load_pipeline(Path("pipelines/demo.yaml")), Lake(root=".demo/lake")
    datasets = {dataset.name: held(lake, pipeline, dataset) for dataset in pipeline.datasets}
    result = {
        "datasets": datasets,
        "sample_rows": SAMPLE_ROWS,
        "machine": machine_facts(),
        "date": datetime.now(UTC).date().isoformat(),
    }
    RESULTS.write_text(json.dumps(result, indent=2) + "\n")
    write_section("plan", section(result))
    print(section(result))


def held(lake: Lake, pipeline: EmbeddingPipeline, dataset: DatasetSpec) -> dict[str, Any]:
    """By figure: what was planned (low, expected, high), what came, and planned over came."""
    shards = committed(lake, pipeline, dataset)
    plan = make_plan(
        lake, pipeline, dataset, [speed.CPU], quotes_for(pipeline, SkyPilotSettings(), catalog=False),
        sample_rows=SAMPLE_ROWS, local=True, measured_shards=1,
    )  # fmt: skip
    (here,) = (one for one in plan.offers if one.accelerator == speed.CPU)
    assert here.engine_hours is not None and plan.todo.output_bytes is not None
    engine = sum(shard.seconds["engine"] for shard in shards)
    return {
        "rows": _line(plan.todo.rows, sum(shard.rows_in for shard in shards)),
        "tokens": _line(plan.todo.tokens, sum(shard.tokens for shard in shards)),
        "vectors": _line(plan.todo.windows, sum(shard.windows for shard in shards)),
        "bytes of output": _line(plan.todo.output_bytes, sum(file.bytes for shard in shards for file in shard.files)),
        "engine seconds": _line(here.engine_hours * 3600.0, engine),
    }


def committed(lake: Lake, pipeline: EmbeddingPipeline, dataset: DatasetSpec) -> list[ShardManifest]:
    raw = lake.base(dataset.name, dataset.ingest_id)
    if raw is None:
        sys.exit("the demo's lake is not there: run `make demo` first")
    cut = lake.cut(raw, dataset.cut)
    if cut is None:
        sys.exit("the demo's lake is not cut: run `make demo` first")
    spec_id = pipeline.embedding.spec_id
    ids = [ShardId.of(dataset.name, spec_id, cut.partitioning, i, e.digest) for i, e in enumerate(cut.strides)]
    shards = [shard for one in ids if (shard := lake.shard(one)) is not None]
    if len(shards) < dataset.strides:
        sys.exit(f"{dataset.name}: {len(shards)} of {dataset.strides} partitions are committed: run `make demo` first")
    return shards


def _line(planned: Figure, came: float) -> dict[str, float]:
    values = {"low": planned.low, "planned": planned.value, "high": planned.high, "came": came}
    return {**{name: round(value, 3) for name, value in values.items()}, "ratio": round(planned.value / came, 4)}


def section(result: dict[str, Any]) -> str:
    box = result["machine"]
    rows = [
        f"| {dataset} | {name} | {one['planned']:,.0f} ({one['low']:,.0f} … {one['high']:,.0f}) | {one['came']:,.0f} "
        f"| {one['ratio']:.3f} |"
        for dataset, lines in result["datasets"].items()
        for name, one in lines.items()
    ]
    return "\n".join(
        [
            "## The plan against the run",
            "",
            "The demo's datasets, planned after one committed partition (its speed) from a sample of "
            f"{result['sample_rows']:,} rows, and what all partitions took.",
            "",
            "| dataset | figure | planned (range) | came | planned / came |",
            "|---|---|---:|---:|---:|",
            *rows,
            "",
            f"`make bench-plan` · {result['date']} · {box['cpu']}, {box['cores']} cores · "
            "[plan.json](../bench/results/plan.json)",
        ]
    )


if __name__ == "__main__":
    main()
