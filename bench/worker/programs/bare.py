"""vLLM alone on token ids: no reading, no tokenising, no writing. `python bare.py MODEL INPUT.json OUT.json`"""

import json
import os
import sys
import time
from pathlib import Path

WARM_UP = 3


def main() -> None:
    model, source, out = sys.argv[1:]
    ids = json.loads(Path(source).read_text())["ids"]
    begun = time.monotonic()
    import torch
    from vllm import LLM

    llm = LLM(
        model=model,
        runner="pooling",
        dtype="bfloat16",
        load_format="safetensors",
        enforce_eager=not torch.cuda.is_available(),
        disable_log_stats=True,
        max_model_len=256,
    )
    llm.embed([{"prompt_token_ids": one} for one in ids[:WARM_UP]], use_tqdm=False)
    ready = time.monotonic()
    outputs = llm.embed([{"prompt_token_ids": one} for one in ids], use_tqdm=False)
    seconds = time.monotonic() - ready
    assert len(outputs) == len(ids)
    threads = torch.get_num_threads()
    result = {"tokens": sum(map(len, ids)), "seconds": seconds, "load_seconds": ready - begun, "threads": threads}
    Path(out).write_text(json.dumps(result))


if __name__ == "__main__":
    main()
    sys.stdout.flush()
    os._exit(0)  # as the worker ends: the farewell of vLLM's threads is not measured on either side
