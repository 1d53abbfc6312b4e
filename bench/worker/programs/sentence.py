"""sentence-transformers in bfloat16. `python sentence.py MODEL INPUT.json OUT.json BATCH…`

With several batch sizes, it tries each on a part of the texts first and takes the fastest.
"""

import json
import os
import sys
import time
from importlib.metadata import version
from pathlib import Path

PROBE = 0.15
"""Share of the texts that each batch size is tried on."""


def main() -> None:
    model_folder, source, out, *sizes = sys.argv[1:]
    given = json.loads(Path(source).read_text())
    texts = given["texts"]
    import torch
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = SentenceTransformer(model_folder, device=device, model_kwargs={"dtype": torch.bfloat16})
    assert next(model.parameters()).dtype == torch.bfloat16
    model.max_seq_length = 256

    def run(part: list[str], size: int) -> float:
        begun = time.monotonic()
        vectors = model.encode(part, batch_size=size, normalize_embeddings=True, show_progress_bar=False)
        assert len(vectors) == len(part)
        return time.monotonic() - begun

    step = max(1, round(1 / PROBE))
    run(texts[:64], 32)
    probes = {int(size): run(texts[::step], int(size)) for size in sizes} if len(sizes) > 1 else {}
    batch = min(probes, key=lambda size: probes[size]) if probes else int(sizes[0])
    seconds = run(texts, batch)
    result = {"tokens": sum(map(len, given["ids"])), "seconds": seconds, "batch_size": batch, "probes": probes,
              "threads": torch.get_num_threads(),
              "versions": {n: version(n) for n in ("sentence-transformers", "transformers", "torch")}}  # fmt: skip
    Path(out).write_text(json.dumps(result))


if __name__ == "__main__":
    main()
