"""Makes a shard of 384 float32 a row without a model, then times verify and the checks on it, in the platform's Python.

`python checks.py JOB OUT.json`. The files are in the page cache: on an object store its reading comes on top.
"""

import json
import sys
import threading
import time
from collections.abc import Generator
from pathlib import Path

import numpy as np

from embed_assets.checks.shard import SHARD_CHECKS, ShardView
from embed_assets.upkeep.verify import verify_lake
from embed_worker.attempt.runner import run_job
from embed_worker.engine.base import RequestSource, Result, embed_list
from embed_worker.engine.hash import HashEngine
from embed_worker.engine.loading import CANARY_TEXTS, load_model
from embed_worker.lake.job import load_job
from embed_worker.lake.manifests import Canaries, ShardManifest, read_manifest
from embed_worker.lake.store import Store

DIMENSION = 384


class WideEngine(HashEngine):
    """Vectors of a real model's size, at no cost."""

    dimension = DIMENSION

    def embed(self, source: RequestSource) -> Generator[Result, None, None]:
        vectors = np.random.default_rng(0).standard_normal((4096, DIMENSION)).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        count = 0
        while (request := source.take(block=True)) is not None:
            yield request[0], vectors[count % len(vectors)]
            count += 1


def main() -> None:
    url, out = sys.argv[1:]
    job = load_job(url)
    model = load_model(job.spec)
    model.engine = WideEngine(job.spec)
    model.canaries = Canaries.of(CANARY_TEXTS, embed_list(model.engine, [(i,) for i in range(len(CANARY_TEXTS))]))
    run_job(job, lambda: model, threading.Event())
    store = Store(job.lake)
    manifest = read_manifest(store, job.shard.manifest_path, ShardManifest)
    assert manifest is not None
    seconds = {}
    for name, check in SHARD_CHECKS.items():
        view = ShardView(store, job.shard, manifest, range(job.input.rows))  # a new one: nothing read before
        begun = time.monotonic()
        outcome = check(view)
        seconds[name] = time.monotonic() - begun
        assert outcome.passed, f"{name}: {outcome.description}"
    begun = time.monotonic()
    report = verify_lake(store)
    verify = time.monotonic() - begun
    assert not report.damages, report.damages
    result = {"verify": verify, "checks": seconds, "bytes": report.bytes, "dimension": manifest.dimension}
    Path(out).write_text(json.dumps(result))


if __name__ == "__main__":
    main()
