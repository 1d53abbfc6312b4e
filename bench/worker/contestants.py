"""One timed run of each contestant, each a process of its own that starts from nothing."""

import http.client
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import embed_worker
from bench.worker import busy
from bench.worker.flops import config_of, layer_shapes
from bench.worker.inputs import MAX_TOKENS, Texts, make_job, model_spec
from embed_worker.lake.job import EmbedJob
from embed_worker.lake.manifests import ShardManifest, read_manifest
from embed_worker.lake.store import Store

PROGRAMS = Path(__file__).parent / "programs"
WORKER_PATH = Path(embed_worker.__file__).parents[1]
"""Folder of the checkout whose worker is measured: the one that PYTHONPATH gives this process."""
SEED_BATCH = 32
GEMM_TOKENS = [512, 2048, 4096, 8192]

Figures = dict[str, Any]


@dataclass
class Machine:
    """Where the contestants run: their Pythons, the model, and a folder for what they leave."""

    python: Path
    """Python of the worker's environment."""
    rival_python: Path
    """Python of the environment with sentence-transformers."""
    ray_python: Path
    """Python of the environment with Ray, over the worker's."""
    model: Path
    folder: Path
    checkpoint_rows: int
    gemm_seconds: float
    runs: int = 0
    batch_size: int | None = None
    """The batch size that suited sentence-transformers best, once it is known."""

    def fresh(self, name: str) -> Path:
        self.runs += 1
        return self.folder / f"{self.runs:03d}-{name}"

    def environment(self, **more: str) -> dict[str, str]:
        """What every contestant gets: this process' environment, and the settings that vLLM needs on a CPU."""
        vllm = {
            "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
            "VLLM_CPU_KVCACHE_SPACE": "1",
            "VLLM_NO_USAGE_STATS": "1",
            "VLLM_LOGGING_LEVEL": "WARNING",
            "HF_HUB_OFFLINE": "1",
            "OMP_NUM_THREADS": str(len(os.sched_getaffinity(0))),
        }
        return {**vllm, **os.environ, "PYTHONPATH": str(WORKER_PATH), **more}


def run_program(command: list[Any], environment: dict[str, str], log: Path) -> float:
    """Seconds from start to end of a process. Raises RuntimeError with the end of its log where it fails."""
    with log.open("wb") as sink:
        begun = time.monotonic()
        done = subprocess.run(list(map(str, command)), env=environment, stdout=sink, stderr=sink, check=False)
        seconds = time.monotonic() - begun
    if code := done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))} ended with {code}:\n{log.read_text()[-3000:]}")
    return seconds


def manifest_of(job: EmbedJob) -> ShardManifest:
    found = read_manifest(Store(job.lake), job.shard.manifest_path, ShardManifest)
    assert found is not None, f"{job.shard.manifest_path} is not there: the worker has committed nothing"
    return found


def job_url(job: EmbedJob) -> str:
    return Store(job.lake).url(job.path)


def worker(machine: Machine, texts: Texts) -> Figures:
    """The worker as a user has it: from a job file to a committed shard."""
    folder = machine.fresh("worker")
    job = make_job(folder, texts.texts, model_spec(machine.model), machine.checkpoint_rows)
    trace = folder / "trace.jsonl"
    command = [machine.python, "-m", "embed_worker", job_url(job)]
    process = run_program(command, machine.environment(EMBED_TRACE=str(trace)), folder / "log")
    manifest = manifest_of(job)
    assert manifest.rows_embedded == len(texts), "the worker did not embed every row"
    assert manifest.tokens == texts.tokens, "the worker embedded other tokens than the others are given"
    figures: Figures = {
        **rates(manifest.tokens, manifest.seconds["engine"]),
        "process_seconds": process,
        "phases": manifest.seconds,
        "engine": manifest.engine,
    }
    if trace.exists():
        figures["busy"] = busy.share(busy.read_trace(trace))
        figures["trace"] = str(trace)
    return figures


def bare(machine: Machine, texts: Texts) -> Figures:
    """vLLM alone on the same token ids."""
    folder = machine.fresh("bare")
    folder.mkdir()
    return _program(machine, [machine.python, PROGRAMS / "bare.py", machine.model], texts, folder)


def sentence_transformers(machine: Machine, texts: Texts) -> Figures:
    """Its first run looks for its best batch size."""
    folder = machine.fresh("sentence")
    folder.mkdir()
    sizes = [machine.batch_size] if machine.batch_size else [8, 16, 32, 64, 128]
    command = [machine.rival_python, PROGRAMS / "sentence.py", machine.model]
    figures = _program(machine, command, texts, folder, list(map(str, sizes)))
    machine.batch_size = figures["batch_size"]
    return figures


def ray_data(machine: Machine, texts: Texts) -> Figures:
    """Ray Data LLM, which runs vLLM in an actor, on the same token ids."""
    folder = machine.fresh("ray")
    folder.mkdir()
    # As with the seed's loop: its engine is a process of its own.
    more = {"VLLM_ENABLE_V1_MULTIPROCESSING": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
    return _program(machine, [machine.ray_python, PROGRAMS / "ray_data.py", machine.model], texts, folder, **more)


def gemm(machine: Machine) -> Figures:
    """FLOP/s of the model's own matrix products."""
    folder = machine.fresh("gemm")
    folder.mkdir()
    request, out = folder / "request.json", folder / "out.json"
    shapes = layer_shapes(config_of(machine.model))
    request.write_text(json.dumps({"shapes": shapes, "tokens": GEMM_TOKENS, "seconds": machine.gemm_seconds}))
    command = [machine.python, PROGRAMS / "gemm.py", request, out]
    run_program(command, machine.environment(), folder / "log")
    found: Figures = json.loads(out.read_text())
    return found


def _program(
    machine: Machine,
    command: list[Any],
    texts: Texts,
    folder: Path,
    arguments: Sequence[str] = (),
    **environment: str,
) -> Figures:
    source, out = texts.save(folder / "input.json"), folder / "out.json"
    process = run_program([*command, source, out, *arguments], machine.environment(**environment), folder / "log")
    found: Figures = json.loads(out.read_text())
    return {**found, **rates(found["tokens"], found["seconds"]), "process_seconds": process}


def seed_loop(machine: Machine, texts: Texts) -> Figures:
    """SkyPilot's example as it embeds: vLLM's HTTP server, one synchronous batch of 32 texts at a time, JSON floats."""
    folder = machine.fresh("seed")
    folder.mkdir()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    # Its engine is a process of its own; without `nobind` vLLM leaves a core unused there.
    environment = machine.environment(VLLM_ENABLE_V1_MULTIPROCESSING="1", VLLM_CPU_OMP_THREADS_BIND="nobind")
    command = [machine.python, "-m", "vllm.entrypoints.openai.api_server", "--host", "127.0.0.1", "--port", port]
    command += ["--model", machine.model, "--served-model-name", "model", "--runner", "pooling"]
    command += ["--dtype", "bfloat16", "--max-model-len", MAX_TOKENS, "--enforce-eager"]
    begun = time.monotonic()
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(
            list(map(str, command)), env=environment, stdout=log, stderr=log, start_new_session=True
        )
        try:
            _until_ready(server, port, folder / "log")
            batches = [texts.texts[i : i + SEED_BATCH] for i in range(0, len(texts), SEED_BATCH)]
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
            _post(connection, batches[0][:3])
            load_seconds = time.monotonic() - begun
            begun, tokens, vectors = time.monotonic(), 0, []
            for batch in batches:
                answer = _post(connection, batch)
                vectors += [one["embedding"] for one in answer["data"]]
                tokens += answer["usage"]["prompt_tokens"]
            seconds = time.monotonic() - begun
        finally:
            os.killpg(server.pid, signal.SIGKILL)  # its own group: the server and its engine
            server.wait()
    assert (len(vectors), tokens) == (len(texts), texts.tokens), "the server embedded other tokens than the others"
    return {"tokens": tokens, "seconds": seconds, "load_seconds": load_seconds, **rates(tokens, seconds)}


def _until_ready(server: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        if server.poll() is not None:
            break
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/health")
            if connection.getresponse().status == 200:
                return
        except OSError:
            pass
        time.sleep(0.2)
    raise RuntimeError(f"vLLM's server did not become ready:\n{log.read_text()[-3000:]}")


def _post(connection: http.client.HTTPConnection, texts: list[str]) -> dict[str, Any]:
    body = json.dumps({"model": "model", "input": texts, "encoding_format": "float"})
    connection.request("POST", "/v1/embeddings", body, {"Content-Type": "application/json"})
    response = connection.getresponse()
    answer: dict[str, Any] = json.loads(response.read())
    if response.status != 200:
        raise RuntimeError(f"vLLM's server answered {response.status}: {answer}")
    return answer


def rates(tokens: int, seconds: float) -> Figures:
    return {"tokens_per_second": tokens / seconds}


Contestant = Callable[[], Figures]
