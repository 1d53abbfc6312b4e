"""The machine's ceiling: bfloat16 products of a model's own matrix shapes, nothing else.

`python gemm.py REQUEST.json OUT.json`, the request being {"shapes": [[inputs, outputs], …], "tokens": [batch, …],
"seconds": s}. Reports the fastest batch.
"""

import json
import sys
import time
from pathlib import Path

TRIALS = 3


def main() -> None:
    import torch

    request = json.loads(Path(sys.argv[1]).read_text())
    shapes, batches = request["shapes"], request["tokens"]
    device = "cuda" if torch.cuda.is_available() else "cpu"

    def wait() -> None:
        if device == "cuda":
            torch.cuda.synchronize()

    weights = [torch.randn(b, a, device=device).to(torch.bfloat16) for a, b in shapes]
    share = request["seconds"] / len(batches) / TRIALS
    flops = {}
    with torch.inference_mode():
        for tokens in batches:
            inputs = {a: torch.randn(tokens, a, device=device).to(torch.bfloat16) for a, _ in shapes}
            rates = []
            for trial in range(TRIALS + 1):
                wait()
                begun, times = time.monotonic(), 0
                while time.monotonic() - begun < (share if trial else 0.3):
                    for weight in weights:
                        torch.nn.functional.linear(inputs[weight.shape[1]], weight)
                    wait()
                    times += 1
                per_layer = sum(2 * tokens * a * b for a, b in shapes)
                rates.append(per_layer * times / (time.monotonic() - begun))
            flops[tokens] = max(rates[1:])  # the first warms up; a ceiling is the best that was seen
    best = max(flops, key=lambda tokens: flops[tokens])
    result = {"flops": flops[best], "batch_tokens": best, "by_batch": flops, "threads": torch.get_num_threads(),
              "device": torch.cuda.get_device_name(0) if device == "cuda" else "cpu"}  # fmt: skip
    Path(sys.argv[2]).write_text(json.dumps(result))


if __name__ == "__main__":
    main()
