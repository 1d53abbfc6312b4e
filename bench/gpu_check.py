"""`make gpu-check`: all that only a GPU can show, in about 15 minutes on one card, unattended. docs/gpu.md says what.

Each step has a time limit, and the next one runs whatever became of it; what they said is in bench/results/gpu.json.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "bench" / "results" / "gpu.json"
VARIANTS: Mapping[str, tuple[dict[str, str], dict[str, Any]]] = {
    "as shipped": ({}, {}),
    "model runner V1": ({"VLLM_USE_V2_MODEL_RUNNER": "0"}, {}),
    "no CUDA graphs": ({}, {"compilation_config": {"cudagraph_mode": "NONE"}}),
    "no compilation": ({}, {"enforce_eager": True}),
}
"""Name → environment, and arguments of vLLM's engine."""
AGREE = 0.999
"""Cosine of the canaries between two variants, at least."""
FIGURES = re.compile(r"^FIGURES (\{.*\})$", re.MULTILINE)

VARIANT = """
import json, sys, time
from pathlib import Path
from embed_worker.engine.base import embed_list
from embed_worker.engine.loading import load_model
from embed_worker.lake.spec import EmbeddingSpec
spec = EmbeddingSpec.model_validate_json(sys.argv[1])
begun = time.monotonic()
model = load_model(spec)
started = time.monotonic()
text = "A film about time, memory and a lost violin. " * 12
texts = [f"{number} {text}" for number in range(int(sys.argv[2]))]
sequences = [windows[0].ids for windows in model.tokenizer.windows(texts, "")]
embed_list(model.engine, sequences[:64])
warm = time.monotonic()
embed_list(model.engine, sequences)
seconds = time.monotonic() - warm
print("FIGURES", json.dumps({
    "start_seconds": round(started - begun, 1), "tokens_per_second": round(sum(map(len, sequences)) / seconds),
    "versions": model.engine.versions(), "canaries": model.canaries.array().tolist(),
}))
"""


@dataclass(frozen=True)
class Step:
    name: str
    command: Sequence[str]
    seconds: float
    environment: Mapping[str, str] = field(default_factory=dict)


def steps(python: Path, model: Path, texts: int) -> list[Step]:
    spec = {
        "model": "sentence-transformers/all-MiniLM-L6-v2", "location": str(model), "pooling": "mean",
        "attention": "bidirectional", "dtype": "float16", "max_tokens": 256,
    }  # fmt: skip
    worker = {"PYTHONPATH": str(ROOT / "sky")}
    found = [
        Step("preflight", [str(python), "-m", "embed_worker.preflight", "gpu"], 120, worker),
        Step("vllm suite", [sys.executable, "-m", "pytest", "-m", "vllm", "tests/embed_worker/engine"], 400),
        Step("bench-gpu", [sys.executable, "-m", "bench.worker.gpu", "--rounds", "1"], 300),
    ]
    for name, (environment, engine) in VARIANTS.items():
        arguments = json.dumps({**spec, "engine": engine})
        command = [str(python), "-c", VARIANT, arguments, str(texts)]
        found.append(Step(f"variant: {name}", command, 180, {**worker, **environment}))
    return found


def run(step: Step) -> dict[str, Any]:
    """What became of a step; never raises."""
    begun = time.monotonic()
    try:
        done = subprocess.run(
            step.command, cwd=ROOT, env={**os.environ, **step.environment}, capture_output=True, text=True,
            timeout=step.seconds, check=False,
        )  # fmt: skip
        code, out, said = done.returncode, done.stdout, done.stdout + done.stderr
    except subprocess.TimeoutExpired:
        code, out, said = -1, "", f"not over after {step.seconds:g} s"
    except OSError as error:
        code, out, said = -1, "", str(error)
    figures = FIGURES.search(out)
    return {
        "ok": code == 0,
        "exit_code": code,
        "seconds": round(time.monotonic() - begun, 1),
        "said": "\n".join(FIGURES.sub("", said).strip().splitlines()[-15:]),
        **(json.loads(figures[1]) if figures else {}),
    }


def agreement(results: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """The lowest cosine of each variant's canaries with those of the engine as it is shipped."""
    first = results.get("variant: as shipped", {}).get("canaries")
    found = {}
    for name, one in results.items():
        if first and one.get("canaries"):
            found[name] = round(min(_cosine(a, b) for a, b in zip(first, one["canaries"], strict=True)), 6)
    return found


def _cosine(a: Sequence[float], b: Sequence[float]) -> float:
    norms = (sum(x * x for x in a) * sum(y * y for y in b)) ** 0.5
    return sum(x * y for x, y in zip(a, b, strict=True)) / norms if norms else 0.0


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.gpu_check", description=__doc__)
    parser.add_argument("--texts", type=int, default=20_000)
    parser.add_argument("--model", type=Path, default=ROOT / ".demo/models/all-MiniLM-L6-v2")
    parser.add_argument("--worker-python", type=Path, default=ROOT / ".venv-worker/bin/python")
    parser.add_argument("--results", type=Path, default=RESULTS)
    given = parser.parse_args()
    results: dict[str, dict[str, Any]] = {}
    told: dict[str, Any] = {"date": datetime.now(UTC).isoformat(timespec="seconds"), "steps": results}
    for step in steps(given.worker_python, given.model.absolute(), given.texts):
        results[step.name] = run(step)
        told["agreement"] = agreement(results)
        given.results.write_text(json.dumps(told, indent=2) + "\n")  # what is known is kept, whatever comes
        print(
            f"{'ok  ' if results[step.name]['ok'] else 'FAIL'} {step.name} ({results[step.name]['seconds']} s)",
            flush=True,
        )
        if step.name == "preflight" and not results[step.name]["ok"]:
            raise SystemExit(f"no GPU that the worker could use: {results[step.name]['said']}")
    apart = [name for name, cosine in told["agreement"].items() if cosine < AGREE]
    if apart or not all(one["ok"] for one in results.values()):
        raise SystemExit(f"see {given.results}" + (f"; other vectors: {', '.join(apart)}" if apart else ""))


if __name__ == "__main__":
    main()
