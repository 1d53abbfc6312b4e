"""`make bench-gpu`: worker, vLLM alone and GEMM on a GPU: tokens/s and model FLOPs utilisation (MFU).

Written without a GPU at hand: on a machine with one, look at its figures before you believe them.
"""

import argparse
import json
import subprocess
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from bench.control_plane import machine as machine_facts
from bench.worker import contestants, flops, inputs
from bench.worker.__main__ import ROOT, commit_of_worker, field
from bench.worker.contestants import Machine
from bench.worker.rounds import alternate, median, ratios

RESULTS = ROOT / "bench" / "results" / "worker_gpu.json"
PROBE = "import torch; print(torch.cuda.get_device_name(0) if torch.cuda.is_available() else '')"
PEAK = {"H100": 989e12, "H200": 989e12, "A100": 312e12, "L40S": 362e12, "A10G": 70e12, "L4": 121e12}
"""Makers' dense bfloat16 FLOP/s; MFU is told against these, and against the GEMM measured in the same run."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.worker.gpu", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, help="all of the demo's texts without it")
    parser.add_argument("--model", type=Path, default=ROOT / ".demo/models/all-MiniLM-L6-v2")
    parser.add_argument("--worker-python", type=Path, default=ROOT / ".venv-worker/bin/python")
    given = parser.parse_args()
    probe = subprocess.run([given.worker_python, "-c", PROBE], capture_output=True, text=True, check=False)
    if probe.returncode:
        raise SystemExit(f"{given.worker_python} cannot tell whether there is a GPU:\n{probe.stderr[-1000:]}")
    if not (device := probe.stdout.strip()):
        raise SystemExit(f"nothing measured: the torch of {given.worker_python} sees no GPU on this machine")
    every = inputs.demo_texts(ROOT / ".demo", given.model)
    texts = every.some(given.rows or len(every))
    cost = flops.flops_per_token(flops.config_of(given.model), [len(ids) for ids in texts.ids])
    with tempfile.TemporaryDirectory(prefix="bench-gpu-") as folder:
        machine = Machine(given.worker_python, given.worker_python, given.model.absolute(), Path(folder), 512, 4.0)
        rounds = alternate(field(machine, texts, ["worker", "bare", "gemm"]), given.rounds)
    rate = median(rounds, "worker")
    assert rate is not None
    peak = next((value for name, value in PEAK.items() if name in device.replace("-", " ").split()), None)
    result = {
        **ratios(rounds, cost),
        "tokens_per_second": round(rate),
        "mfu": None if peak is None else round(rate * cost / peak, 4),
        "peak_flops": peak,
        "device": device,
        "texts": len(texts),
        "tokens": texts.tokens,
        "flops_per_token": round(cost),
        "gemm_tokens": contestants.GEMM_TOKENS,
        "rounds": rounds,
        "machine": machine_facts(),
        "commit": commit_of_worker(),
        "date": datetime.now(UTC).date().isoformat(),
    }
    RESULTS.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps({k: v for k, v in result.items() if not isinstance(v, list | dict)}, indent=2))


if __name__ == "__main__":
    main()
