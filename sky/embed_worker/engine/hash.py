"""A tiny deterministic engine: the whole worker without a model. For tests and dry runs, never for search."""

import hashlib
from collections.abc import Generator
from importlib.metadata import version
from typing import TYPE_CHECKING

import numpy as np

from embed_worker.engine.base import RequestSource, Result
from embed_worker.engine.clock import EngineClock
from embed_worker.lake.spec import EmbeddingSpec

if TYPE_CHECKING:
    from tokenizers import Tokenizer

MODEL = "embed-worker/hash"
"""The model name that selects this engine."""
DIMENSION = 32


def byte_tokenizer() -> "Tokenizer":
    """One token a UTF-8 byte, between [CLS] and [SEP]."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {"[CLS]": 0, "[SEP]": 1} | {char: i + 2 for i, char in enumerate(alphabet)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.add_special_tokens(["[CLS]", "[SEP]"])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # type: ignore[assignment]
    tokenizer.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    tokenizer.post_processor = processors.TemplateProcessing(  # type: ignore[assignment]
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 0), ("[SEP]", 1)]
    )
    return tokenizer


class HashEngine:
    """A vector is a function of the token ids and of the spec, so another spec is another space."""

    dimension = DIMENSION

    def __init__(self, spec: EmbeddingSpec) -> None:
        self.clock = EngineClock()
        self._salt = f"{spec.pooling}/{spec.attention}".encode()
        self._normalize = spec.normalize

    def embed(self, source: RequestSource) -> Generator[Result, None, None]:
        while (request := source.take(block=True)) is not None:
            key, ids = request
            seed = hashlib.sha256(self._salt + np.asarray(ids, dtype="<u4").tobytes()).digest()
            vector = np.random.default_rng(int.from_bytes(seed[:8], "little")).standard_normal(DIMENSION)
            if self._normalize:
                vector /= np.linalg.norm(vector)
            yield key, vector.astype(np.float32)

    def versions(self) -> dict[str, str]:
        return {"engine": "hash", "device": "cpu", "numpy": np.__version__, "pyarrow": version("pyarrow")}
