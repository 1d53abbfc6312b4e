"""The page's words for the worker's figures."""

from typing import Any

from bench.worker.rounds import median

NAMES = {
    "worker": "embed_worker, from engine start to last checkpoint",
    "bare": "vLLM alone, same ids",
    "seed_loop": "the seed's loop (HTTP, one batch of 32 at a time)",
    "sentence_transformers": "sentence-transformers bf16, best batch size",
    "ray_data": "Ray Data LLM (vLLM in an actor), same ids",
}


def section(result: dict[str, Any]) -> str:
    rounds, box = result["rounds"], result["machine"]
    rows = "\n".join(_row(rounds, name, what) for name, what in NAMES.items() if median(rounds, name))
    parts = [
        f"""\
## The worker

{result["texts"]:,} of the demo's texts, {result["tokens"]:,} tokens (each text once, none longer than a window), all-MiniLM-L6-v2
in bfloat16. {len(rounds)} rounds, each contestant a new process in each, the order reversed every other round; medians, of
the rates and of the ratios within a round. Model
loading is in none of the rates, and in all of the process times.

| | tokens/s | process, start to end |
|---|---|---|
{rows}

| | |
|---|---|
| steady state over vLLM alone | **{_(result["steady_over_bare"])}** |
| whole process over vLLM alone | **{_(result["process_over_bare"])}** |
| over the seed's loop | {_(result["over_seed_loop"])} × |
| over sentence-transformers bf16 | {_(result["over_sentence_transformers"])} × |
| over Ray Data LLM, steady / whole process | {_(result["over_ray_data"])} × / {_(result["process_over_ray_data"])} × |
| share of the bare GEMM ceiling | {_(result["share_of_gemm"])} |
| engine busy | {_(result["engine_busy"])} |

vLLM alone is given token ids and writes nothing; the worker reads, tokenises, writes and commits. The ceiling is bf16 products of
the model's own matrix shapes in torch at the same thread count, the best batch of {min(result["gemm_tokens"])} to {max(result["gemm_tokens"])} tokens; a token costs
{result["flops_per_token"] / 1e6:.1f} MFLOP at these lengths, attention included. Between two steps vLLM adds the next
requests, one by one; with texts this short that is most of what the engine is not busy.
""",  # noqa: E501
        "![Engine busy over time](images/engine_busy.svg)\n" if result["engine_busy"] is not None else "",
        _resume(result.get("resume")),
        _growth(result.get("growth", {})),
        _checks(result.get("checks")),
        f"""\
datatrove's inference runner is not here: it asks its servers for completions, not for embeddings.

`make bench-worker` · {result["date"]} · {box["cpu"]}, {box["cores"]} cores, {box["memory_gb"]:.0f} GB, load {rounds[0]["load_at_start"]} at the start ·
{", ".join(f"{name} {version}" for name, version in result["versions"].items())} · worker at {result["commit"]} ·
[worker.json](../bench/results/worker.json)
""",  # noqa: E501
    ]
    return "\n".join(part for part in parts if part)


def _(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.3f}".rstrip("0").rstrip(".")


def _row(rounds: list[dict[str, Any]], name: str, what: str) -> str:
    rate, process = median(rounds, name), median(rounds, name, "process_seconds")
    return f"| {what} | {rate:,.0f} | {f'{process:.1f} s' if process else '—'} |"


def _resume(found: dict[str, Any] | None) -> str:
    if found is None:
        return ""
    return f"""\
**Resume.** kill -9 with {found["checkpoints_kept"]} of {found["checkpoints"]} checkpoints of {found["checkpoint_rows"]} rows committed: {found["restart_to_first_new_rows_seconds"]:.1f} s from restart
to the next committed checkpoint, about {found["rows_done_twice"]} rows done twice (estimated from the rate and the time since the last
commit), each row once in the shard.
"""  # noqa: E501


def _growth(found: dict[str, Any]) -> str:
    lines = [
        f"| {name} | {one['rows'][0]:,} → {one['rows'][1]:,} | {one['rss_peak_mb'][0]:,.0f} → "
        f"{one['rss_peak_mb'][1]:,.0f} MB | {one['ratio']:.2f} |"
        for name, one in found.items()
    ]
    if not lines:
        return ""
    head = ["**Memory** of the worker over a partition 20 times larger:", "", "| engine | rows | peak RSS | ratio |",
            "|---|---|---|---|"]  # fmt: skip
    told = "vLLM alone has no lake and no checkpoints: most of the growth is the engine's own, as it warms up."
    return "\n".join([*head, *lines, "", *([told, ""] if "vLLM alone" in found else [])])


def _checks(found: dict[str, Any] | None) -> str:
    if found is None:
        return ""
    each = ", ".join(f"{name} {seconds:.2f}" for name, seconds in found["each_check_seconds_per_million"].items())
    return f"""\
**Proof.** Per million rows of {found["dimension"]} × float32, files in the page cache: `embed-assets verify`
{found["verify_seconds_per_million"]:.1f} s (raw rows, strides and shards), the shard's checks {found["checks_seconds_per_million"]:.1f} s ({each}).
"""  # noqa: E501
