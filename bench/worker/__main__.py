"""`make bench-worker`: all of the worker's claims in one run, about 15 minutes on 2 cores; `--quick` takes 4.

Measures the embed_worker that this process imports: another checkout's with PYTHONPATH=CHECKOUT/sky:. in front.
Writes bench/results/worker.json, and its section of docs/performance.md.
"""

import argparse
import json
import platform
import signal
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from bench.control_plane import machine as machine_facts
from bench.report import write_section
from bench.worker import busy, contestants, costs, flops, inputs, page
from bench.worker.contestants import Contestant, Machine
from bench.worker.recovery import resume
from bench.worker.rounds import alternate, ratios

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "bench" / "results" / "worker.json"
PLOT = ROOT / "docs" / "images" / "engine_busy.svg"
PARTS = ["rounds", "resume", "growth", "growth-vllm", "checks"]
CONTESTANTS = ["worker", "bare", "sentence_transformers", "seed_loop", "ray_data", "gemm"]
FULL = {"rounds": 3, "rows": 6000, "hash_rows": 5000, "vllm_rows": 500, "check_rows": 200_000, "gemm_seconds": 4.0}
QUICK = {"rounds": 2, "rows": 1000, "hash_rows": 1000, "vllm_rows": 200, "check_rows": 30_000, "gemm_seconds": 1.0}
QUICK_PARTS = ["rounds", "resume", "growth", "checks"]


def field(machine: Machine, texts: inputs.Texts, names: list[str]) -> dict[str, Contestant]:
    """The contestants by name."""
    every: dict[str, Contestant] = {
        "worker": partial(contestants.worker, machine, texts),
        "bare": partial(contestants.bare, machine, texts),
        "sentence_transformers": partial(contestants.sentence_transformers, machine, texts),
        "seed_loop": partial(contestants.seed_loop, machine, texts),
        "ray_data": partial(contestants.ray_data, machine, texts),
        "gemm": partial(contestants.gemm, machine),
    }
    return {name: every[name] for name in names}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.worker", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small and rough; keeps docs/performance.md as it is")
    for name, kind in {n: type(v) for n, v in FULL.items()}.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, help=f"{FULL[name]}, with --quick {QUICK[name]}")
    parser.add_argument("--parts", type=lambda v: v.split(","), help=f"some of {','.join(PARTS)}")
    parser.add_argument("--contestants", type=lambda v: v.split(","), default=CONTESTANTS,
                        help=f"some of {','.join(CONTESTANTS)}")  # fmt: skip
    parser.add_argument("--checkpoint-rows", type=int, default=512)
    parser.add_argument("--model", type=Path, default=ROOT / ".demo/models/all-MiniLM-L6-v2")
    parser.add_argument("--worker-python", type=Path, default=ROOT / ".venv-worker/bin/python")
    parser.add_argument("--bench-python", type=Path, default=ROOT / ".venv-bench/bin/python")
    parser.add_argument("--ray-python", type=Path, default=ROOT / ".venv-bench-ray/bin/python")
    parser.add_argument("--out", type=Path, help="where to write; without it, the results folder (not with --quick)")
    found = parser.parse_args()
    defaults = {**(QUICK if found.quick else FULL), "parts": QUICK_PARTS if found.quick else PARTS}
    for name, value in defaults.items():
        if getattr(found, name) is None:
            setattr(found, name, value)
    for name, known in (("parts", PARTS), ("contestants", CONTESTANTS)):
        if unknown := set(getattr(found, name)) - set(known):
            parser.error(f"--{name}: {', '.join(unknown)} is none of {', '.join(known)}")
    whole = not found.quick and set(found.parts) == set(PARTS) and found.contestants == CONTESTANTS
    found.publish = found.out is None and whole
    found.out = found.out or (RESULTS if whole else Path(tempfile.gettempdir()) / "bench-worker.json")
    return found


def main() -> None:
    given = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that a server of ours is not left behind
    begun = time.monotonic()
    every = inputs.demo_texts(ROOT / ".demo", given.model)
    texts = every.some(given.rows)
    cost = flops.flops_per_token(flops.config_of(given.model), [len(ids) for ids in texts.ids])
    result: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="bench-worker-") as folder:
        pythons = (given.worker_python, given.bench_python, given.ray_python)
        machine = Machine(*pythons, given.model.absolute(), Path(folder), given.checkpoint_rows, given.gemm_seconds)
        spec = inputs.model_spec(given.model)
        rounds = []
        if "rounds" in given.parts:
            rounds = alternate(field(machine, texts, given.contestants), given.rounds)
            _plot(rounds, PLOT if given.publish else given.out.with_suffix(".svg"))
        if "resume" in given.parts:
            result["resume"] = resume(machine, every.some(given.rows), max(16, given.rows // 24))
            print("resume:", json.dumps(result["resume"]), flush=True)
        grown = result["growth"] = {}
        if "growth" in given.parts:
            grown["hash"] = costs.growth(machine, every.texts, inputs.hash_spec(), given.hash_rows, 512)
        if "growth-vllm" in given.parts:
            grown["vllm"] = costs.growth(machine, every.texts, spec, given.vllm_rows, 64)
            grown["vLLM alone"] = costs.bare_growth(machine, every, given.vllm_rows)
        print("growth:", json.dumps(grown), flush=True)
        if "checks" in given.parts:
            result["checks"] = costs.checks(machine, every.texts, given.check_rows)
            print("checks:", json.dumps(result["checks"]), flush=True)
    best = grown.get("vllm") or grown.get("hash")
    result = {
        **ratios(rounds, cost),
        "rss_growth": round(best["ratio"], 3) if best else None,
        **result,
        "quick": given.quick,
        "texts": len(texts),
        "tokens": texts.tokens,
        "flops_per_token": round(cost),
        "gemm_tokens": contestants.GEMM_TOKENS,
        "rounds": rounds,
        "machine": machine_facts(),
        "versions": _versions(rounds),
        "commit": commit_of_worker(),
        "seconds": round(time.monotonic() - begun),
        "date": datetime.now(UTC).date().isoformat(),
    }
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(result, indent=2) + "\n")
    if given.publish:
        write_section("worker", page.section(result))
    print(json.dumps({k: v for k, v in result.items() if isinstance(v, float | int | str)}, indent=2))
    print(f"written to {given.out}")


def _plot(rounds: list[dict[str, Any]], path: Path) -> None:
    traces = [one["worker"].pop("trace") for one in rounds if "trace" in one.get("worker", {})]
    if traces:
        busy.plot(busy.read_trace(Path(traces[-1])), path)


def _versions(rounds: list[dict[str, Any]]) -> dict[str, str]:
    found = {"python": platform.python_version()}
    for one in rounds[:1]:
        found |= {k: v for k, v in one.get("worker", {}).get("engine", {}).items() if k not in ("engine", "device")}
        rival = one.get("sentence_transformers", {}).get("versions", {})
        found |= {k: v for k, v in rival.items() if k == "sentence-transformers"}
        found |= one.get("ray_data", {}).get("versions", {})
    return found


def commit_of_worker() -> str:
    folder = contestants.WORKER_PATH
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or "unknown"


if __name__ == "__main__":
    main()
