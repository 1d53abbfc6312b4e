"""A BERT encoder in NumPy, from the very weights: a query is embedded before vLLM could be imported.

It serves only where its vectors of the canary texts are those of the space; anything else is for vLLM.
"""

import itertools
import logging
import math
from collections.abc import Generator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from embed_worker.engine.base import RequestSource, Result, embed_list
from embed_worker.engine.clock import EngineClock
from embed_worker.engine.declared import check_capitals, check_declared, declared_by
from embed_worker.engine.hash import MODEL as HASH_MODEL
from embed_worker.engine.loading import CANARY_TEXTS, LoadedModel, canary_sequences, load_tokenizer
from embed_worker.engine.weights import check_weights, model_folder
from embed_worker.lake.manifests import Canaries
from embed_worker.lake.spec import EmbeddingSpec

log = logging.getLogger(__name__)

MIN_COSINE = 0.9999
"""To the space's canaries."""
FIRST_POSITION = {"bert": 0, "roberta": 2, "xlm-roberta": 2}
"""By `model_type`."""
SUPPORTED = {"hidden_act": "gelu", "position_embedding_type": "absolute", "is_decoder": False}
MAX_BYTES = 2 << 30
"""Of weights: larger ones are quicker with vLLM's kernels."""


class Unsupported(Exception):
    """This model, or this spec, is for vLLM."""


def load_light(spec: EmbeddingSpec, space: Canaries) -> LoadedModel | None:
    """None where it is for vLLM. Raises BadJob as `load_model` does."""
    if spec.model == HASH_MODEL:
        return None
    folder = model_folder(spec)
    try:
        engine = LightEngine(spec, folder)
        check_weights(spec, folder)
        declared = declared_by(folder)
        check_declared(spec, declared)
        tokenizer = load_tokenizer(spec)
        check_capitals(declared, tokenizer)
        made = Canaries.of(CANARY_TEXTS, embed_list(engine, canary_sequences(tokenizer, spec)))
        if (cosine := made.worst_cosine(space)) < MIN_COSINE:
            raise Unsupported(f"its canaries are at {cosine:.5f} to the space's")
    except Unsupported as why:
        log.info("%s is for vLLM: %s", spec.model, why)
        return None
    return LoadedModel(spec, tokenizer, engine, made)


class LightEngine:
    """One sequence after another, in float32."""

    def __init__(self, spec: EmbeddingSpec, folder: Path) -> None:
        """Raises Unsupported."""
        self.clock = EngineClock()
        self._spec = spec
        config = orjson.loads((folder / "config.json").read_bytes())
        kind = config.get("model_type")
        strange = [key for key, value in SUPPORTED.items() if config.get(key, value) != value]
        if kind not in FIRST_POSITION or strange or spec.hf_overrides or spec.attention != "bidirectional":
            raise Unsupported(f"it is a {kind} with {', '.join(strange) or 'the spec’s overrides or attention'}")
        self._first = FIRST_POSITION[kind]
        self._heads, self._eps = int(config["num_attention_heads"]), float(config.get("layer_norm_eps", 1e-12))
        self._layers = int(config["num_hidden_layers"])
        self._weights = _weights(folder, kind)
        self.dimension = spec.dimensions or int(config["hidden_size"])

    def embed(self, source: RequestSource) -> Generator[Result, None, None]:
        while (request := source.take(block=True)) is not None:
            key, ids = request
            yield key, self._vector(np.asarray(ids))

    def versions(self) -> dict[str, str]:
        return {"engine": "light", "device": "cpu", "numpy": version("numpy")}

    def _vector(self, ids: np.ndarray) -> np.ndarray:
        states = self._encode(ids)
        whole = {"mean": states.mean(axis=0), "cls": states[0], "last": states[-1]}[self._spec.pooling]
        pooled: np.ndarray = whole[: self.dimension]
        return pooled / max(float(np.linalg.norm(pooled)), 1e-12) if self._spec.normalize else pooled

    def _encode(self, ids: np.ndarray) -> np.ndarray:
        w, places = self._weights, np.arange(self._first, self._first + len(ids))
        states = w["embeddings.word_embeddings.weight"][ids] + w["embeddings.position_embeddings.weight"][places]
        states = self._norm("embeddings.LayerNorm", states + w["embeddings.token_type_embeddings.weight"][0])
        for layer in range(self._layers):
            at = f"encoder.layer.{layer}"
            states = self._norm(f"{at}.attention.output.LayerNorm", states + self._attention(at, states))
            inner = _gelu(self._linear(f"{at}.intermediate.dense", states))
            states = self._norm(f"{at}.output.LayerNorm", states + self._linear(f"{at}.output.dense", inner))
        return states

    def _attention(self, at: str, states: np.ndarray) -> np.ndarray:
        tokens = len(states)
        query, key, value = (
            self._linear(f"{at}.attention.self.{name}", states).reshape(tokens, self._heads, -1).swapaxes(0, 1)
            for name in ("query", "key", "value")
        )
        scores = query @ key.swapaxes(1, 2) / math.sqrt(query.shape[-1])
        shares = np.exp(scores - scores.max(axis=-1, keepdims=True))
        shares /= shares.sum(axis=-1, keepdims=True)
        mixed = (shares @ value).swapaxes(0, 1).reshape(tokens, -1)
        return self._linear(f"{at}.attention.output.dense", mixed)

    def _linear(self, name: str, states: np.ndarray) -> np.ndarray:
        found: np.ndarray = states @ self._weights[f"{name}.weight"].T + self._weights[f"{name}.bias"]
        return found

    def _norm(self, name: str, states: np.ndarray) -> np.ndarray:
        centred = states - states.mean(axis=-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + self._eps)
        found: np.ndarray = scaled * self._weights[f"{name}.weight"] + self._weights[f"{name}.bias"]
        return found


def _gelu(values: np.ndarray) -> np.ndarray:
    """NumPy has no erf; a query is a few tokens."""
    erf = np.fromiter(map(math.erf, (values / math.sqrt(2)).ravel().tolist()), np.float32, values.size)
    return values * 0.5 * (1 + erf.reshape(values.shape))


def _weights(folder: Path, kind: str) -> dict[str, np.ndarray]:
    """By their names in the encoder, float32."""
    from safetensors.numpy import load_file

    paths = sorted(folder.glob("*.safetensors"))
    if sum(path.stat().st_size for path in paths) > MAX_BYTES:
        raise Unsupported("its weights are large")
    try:
        found: dict[str, Any] = dict(itertools.chain.from_iterable(load_file(path).items() for path in paths))
    except (TypeError, KeyError, AttributeError) as error:  # bfloat16, which NumPy does not have
        raise Unsupported(f"NumPy cannot hold its weights ({error})") from error
    prefix = f"{kind.removeprefix('xlm-')}."
    named = {name.removeprefix(prefix): value for name, value in found.items()}
    return {name: value.astype(np.float32) for name, value in named.items() if value.dtype.kind == "f"}
