"""Tokens a second of one machine: measured by this lake's shards, stated by the pipeline, or assumed from FLOPs."""

import re
from collections.abc import Iterable, Mapping

from embed_assets.estimate.figures import Figure, How
from embed_worker.lake.figures import ShardFigures, figures_of
from embed_worker.lake.manifests import ShardManifest

CPU = "cpu"
PEAK_TFLOPS: Mapping[str, float] = {
    "T4": 65, "V100": 125, "A10G": 70, "A10": 125, "L4": 121, "L40S": 362, "A100": 312, "A100-80GB": 312,
    "H100": 989, "H200": 989,
}  # fmt: skip
"""Dense 16-bit peak of one GPU in TFLOP/s, from the maker's data sheets (without sparsity)."""
SHARE_OF_PEAK = (0.15, 0.30, 0.50)
"""What of it an embedding run reaches: low, expected, high. Published: an L4 makes about 2,000 tokens/s with a model
of 7 billion parameters (SkyPilot's batch-inference example), which is 0.23 of its peak. Measure one partition."""
FLOPS_PER_PARAMETER = 2.0
"""A token: one multiply and one add a parameter. Attention over some hundred tokens adds under 3 %; it is left out."""
MEASURED_SPREAD = 0.3
"""Of a speed measured on few partitions: neighbours on the same machine come and go."""


def measured(manifests: Iterable[ShardManifest]) -> dict[str, Figure]:
    """Speed by accelerator of committed shards, slowest to fastest."""
    shards: dict[str, list[ShardFigures]] = {}
    for manifest in manifests:
        figures = figures_of(manifest)
        if figures.tokens_per_second is not None:
            shards.setdefault(accelerator_of(manifest), []).append(figures)
    found = {}
    for name, known in shards.items():
        each = [figures.tokens_per_second or 0.0 for figures in known]
        mean = sum(figures.computed_tokens for figures in known) / sum(figures.engine_seconds for figures in known)
        low, high = min(*each, (1 - MEASURED_SPREAD) * mean), max(*each, (1 + MEASURED_SPREAD) * mean)
        found[name] = Figure(low, mean, high, How.MEASURED)
    return found


def accelerator_of(manifest: ShardManifest) -> str:
    """The GPU of a shard by SkyPilot's name, as `L4` or `L4:2`; `cpu` without one."""
    gpus = manifest.hardware.gpus
    if not gpus:
        return CPU
    words = re.split(r"[\s-]+", gpus[0])
    named = max((name for name in PEAK_TFLOPS if name.split("-")[0] in words), key=len, default=gpus[0])
    if named == "A100-80GB" and "80GB" not in words:
        named = "A100"
    return named if len(gpus) == 1 else f"{named}:{len(gpus)}"


def assumed(accelerator: str, parameters: Figure | None) -> Figure | None:
    """Speed of `L4` or `L4:2` from its peak; None for what the table does not know."""
    name, _, number = accelerator.partition(":")
    peak = PEAK_TFLOPS.get(name)
    if peak is None or parameters is None or parameters.value <= 0:
        return None
    flops = peak * 1e12 * float(number or 1)
    low, value, high = (share * flops / FLOPS_PER_PARAMETER for share in SHARE_OF_PEAK)
    return Figure(low, value, high, How.ASSUMED) / parameters
