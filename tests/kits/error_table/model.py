"""The model that a worker finds, and the machine it runs on."""

import hashlib
import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from types import MethodType
from typing import Any

import numpy as np

from embed_worker.attempt.runner import run_job
from embed_worker.engine.hash import HashEngine, byte_tokenizer
from embed_worker.lake.job import EmbedJob, load_job
from embed_worker.lake.spec import EmbeddingSpec
from resources.compute import JobHandle, JobState, JobStatus
from tests.kits.attempt.jobs import CountingEngine, loaded
from tests.kits.compute.in_process import InProcess, InProcessCompute
from tests.kits.error_table.registry import provokes
from tests.kits.error_table.scene import Scene
from tests.kits.graph_bench import SHARDS

HEADER = b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'
WEIGHTS = len(HEADER).to_bytes(8, "little") + HEADER + b"\0" * 8


def model(scene: Scene, **embedding: Any) -> Path:
    """A folder with all that is looked at before vLLM is loaded; the pipeline takes its model from there."""
    folder = scene.folder / "model"
    folder.mkdir()
    byte_tokenizer().save(str(folder / "tokenizer.json"))
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(WEIGHTS)
    scene.bench.embedding = {"model": "some/model", "location": str(folder), **embedding}
    assert scene.ready
    return folder


@provokes("no model at …. Fetch … into that folder, or correct embedding.location")
def no_folder(scene: Scene) -> Iterator[str]:
    (model(scene) / "config.json").unlink()
    yield scene.told(SHARDS)


@provokes("has no *.safetensors")
def pickled_weights(scene: Scene) -> Iterator[str]:
    folder = model(scene)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    yield scene.told(SHARDS)


@provokes("has no tokenizer.json")
def no_tokenizer(scene: Scene) -> Iterator[str]:
    (model(scene) / "tokenizer.json").unlink()
    yield scene.told(SHARDS)


@provokes("not the pinned weights")
def other_weights(scene: Scene) -> Iterator[str]:
    model(scene, sha256={"model.safetensors": hashlib.sha256(b"others").hexdigest()})
    yield scene.told(SHARDS)


@provokes(".safetensors is cut off or damaged: …; fetch it again")
def weights_cut_in_half(scene: Scene) -> Iterator[str]:
    (model(scene) / "model.safetensors").write_bytes(WEIGHTS[:-4])
    yield scene.told(SHARDS)


@provokes("but … declares …; correct the spec")
def another_pooling(scene: Scene) -> Iterator[str]:
    folder = model(scene, pooling="cls")
    (folder / "pool").mkdir()
    (folder / "modules.json").write_text(json.dumps([{"path": "pool", "type": "sentence_transformers.models.Pooling"}]))
    (folder / "pool" / "config.json").write_text('{"pooling_mode_mean_tokens": true}')
    yield scene.told(SHARDS)


@provokes("says do_lower_case: true, but … keeps capitals")
def capitals_that_the_model_has_not_learnt(scene: Scene) -> Iterator[str]:
    (model(scene) / "sentence_bert_config.json").write_text('{"do_lower_case": true}')
    yield scene.told(SHARDS)


@provokes("declares max_seq_length …; write max_tokens:")
def windows_longer_than_the_model(scene: Scene) -> Iterator[str]:
    (model(scene) / "sentence_bert_config.json").write_text('{"max_seq_length": 8}')
    yield scene.told(SHARDS)


@provokes("gives another vector for … than embedding.references")
def another_vector(scene: Scene) -> Iterator[str]:
    scene.bench.embedding = {"references": [{"text": "a text", "vector": [1.0] + [0.0] * 15}]}
    assert scene.ready
    yield scene.told(SHARDS)
    scene.bench.embedding = {}
    scene.made(SHARDS)


class Hub(http.server.BaseHTTPRequestHandler):
    """A model hub that has nothing."""

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        self.send_response(404)
        self.send_header("X-Error-Code", "RepoNotFound")
        self.end_headers()


@provokes("the hub has no model")
def no_such_model(scene: Scene) -> Iterator[str]:
    scene.bench.embedding = {"model": "nobody/nothing"}
    assert scene.ready
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    at_hub(scene, f"http://127.0.0.1:{server.server_port}")
    yield scene.told(SHARDS)
    server.shutdown()


@provokes("cannot fetch … from the hub")
def no_hub(scene: Scene) -> Iterator[str]:
    scene.bench.embedding = {"model": "nobody/nothing"}
    assert scene.ready
    at_hub(scene, "http://127.0.0.1:9")
    yield scene.told(SHARDS)


def at_hub(scene: Scene, url: str) -> None:
    import huggingface_hub

    scene.patch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(scene.folder / "hub"))
    whole = huggingface_hub.snapshot_download

    def there(*asked: Any, **options: Any) -> Any:
        return whole(*asked, **options, endpoint=url, cache_dir=scene.folder / "hub")

    scene.patch.setattr("huggingface_hub.snapshot_download", there)


class SpoiltLater(CountingEngine):
    """Good at first, as the canaries see it; then it gives NaN, to the canaries too."""

    def __init__(self, spec: EmbeddingSpec) -> None:
        super().__init__(spec)
        self.answer: np.ndarray | str = np.full(self.dimension, np.nan, np.float32)

    def embed(self, source: Any) -> Any:
        for key, vector in HashEngine.embed(self, source):
            yield key, self.answer if self.bad else vector

    bad = False


def sick(scene: Scene, answer: np.ndarray | str | None) -> None:
    """Jobs in this process, on an engine that goes bad once it is loaded."""

    def submit(self: InProcess, name: str, job: EmbedJob, url: str) -> JobHandle:
        handle = JobHandle(name, str(len(self._ended)))
        engine = SpoiltLater(job.spec)
        made = loaded(job.spec, engine)
        engine.bad = True
        if answer is not None:
            engine.answer = answer
        try:
            run_job(load_job(url), lambda: made, threading.Event())
        except Exception as error:
            self._ended[handle] = JobStatus(JobState.FAILED, str(error))
        return handle

    def backend() -> InProcess:
        made = InProcess()
        made.submit = MethodType(submit, made)  # type: ignore[method-assign]
        return made

    scene.patch.setattr(InProcessCompute, "backend", backend)


@provokes("this GPU, or this machine's memory, has gone bad")
def a_gpu_gives_nan(scene: Scene) -> Iterator[str]:
    assert scene.ready
    sick(scene, None)
    yield scene.told(SHARDS)
    scene.patch.setattr(InProcessCompute, "backend", InProcess)
    scene.made(SHARDS)


@provokes("the engine now refuses a plain text")
def a_gpu_refuses(scene: Scene) -> Iterator[str]:
    assert scene.ready
    sick(scene, "CUDA error: an illegal memory access was encountered")
    yield scene.told(SHARDS)


@provokes("times in a row and committed nothing; not trying again")
def fruitless_starts(scene: Scene) -> Iterator[str]:
    assert scene.ready
    scene.patch.setenv("SKYPILOT_MANAGED_JOB_ID", "7")
    scene.patch.setenv("EMBED_MAX_STARTS", "1")
    sick(scene, None)
    yield scene.told(SHARDS)
    scene.patch.setenv("SKYPILOT_MANAGED_JOB_ID", "8")
    scene.patch.setattr(InProcessCompute, "backend", InProcess)
    scene.made(SHARDS)
