"""Ray Data LLM on token ids. `python ray_data.py MODEL INPUT.json OUT.json`

Its engine is loaded by an actor in mid-run: the rate counts from the first finished batch to the last one.
"""

import json
import os
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

BATCH = 256
BURST = 0.5
"""Rows that are finished within these seconds came together; the first ones' own time is not known."""


def main() -> None:
    model, source, out = sys.argv[1:]
    ids = json.loads(Path(source).read_text())["ids"]
    begun = time.monotonic()
    import ray
    import torch
    from ray.data.llm import build_processor, vLLMEngineProcessorConfig

    passed = {name: value for name, value in os.environ.items() if name.startswith(("VLLM_", "OMP_", "HF_"))}
    cores = len(os.sched_getaffinity(0))
    # Two more than there are: the actor with the engine holds one, and its stages need some beside it.
    ray.init(num_cpus=cores + 2, include_dashboard=False, log_to_driver=False, runtime_env={"env_vars": passed})
    ray.data.DataContext.get_current().enable_progress_bars = False
    on_gpu = torch.cuda.is_available()
    config = vLLMEngineProcessorConfig(
        model_source=model,
        task_type="embed",
        engine_kwargs={
            "runner": "pooling",
            "dtype": "bfloat16",
            "load_format": "safetensors",
            "enforce_eager": not on_gpu,
            "max_model_len": 256,
        },
        batch_size=BATCH,
        concurrency=1,
        chat_template_stage=False,
        tokenize_stage=False,
        detokenize_stage=False,
        placement_group_config={"bundles": [{"GPU": 1} if on_gpu else {"CPU": 1}]},
        log_engine_metrics=False,
    )

    def ask(row: dict[str, Any]) -> dict[str, Any]:
        return {"prompt": "", "tokenized_prompt": row["ids"], "pooling_params": {}}

    def answer(row: dict[str, Any]) -> dict[str, Any]:
        return {"tokens": len(row["ids"]), "length": len(row["embeddings"]), "at": time.monotonic()}

    processor = build_processor(config, preprocess=ask, postprocess=answer)
    rows = processor(ray.data.from_items([{"ids": one} for one in ids])).take_all()
    assert len(rows) == len(ids) and len({row["length"] for row in rows}) == 1
    first, last = min(row["at"] for row in rows), max(row["at"] for row in rows)
    tokens = sum(row["tokens"] for row in rows if row["at"] > first + BURST)
    result = {
        "tokens": tokens,
        "seconds": last - first,
        "load_seconds": first - begun,
        "versions": {"ray": version("ray")},
    }
    Path(out).write_text(json.dumps(result))


if __name__ == "__main__":
    main()
