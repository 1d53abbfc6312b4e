"""From a spec to a loaded model: find the weights, prove them, load tokenizer and engine."""

from dataclasses import dataclass

import numpy as np

from embed_worker.engine.base import Engine, embed_list
from embed_worker.engine.declared import check_capitals, check_declared, declared_by
from embed_worker.engine.hash import MODEL as HASH_MODEL
from embed_worker.engine.hash import HashEngine, byte_tokenizer
from embed_worker.engine.tokens import TOKENIZER, TextTokenizer, check_tokens
from embed_worker.engine.weights import check_weights, model_folder
from embed_worker.errors import BadJob, WorkerError
from embed_worker.lake.manifests import Canaries
from embed_worker.lake.spec import EmbeddingSpec

CANARY_TEXTS = [
    "The quick brown fox jumps over the lazy dog.",
    "A three-hour film about time, memory and a lost violin; I would see it again tomorrow.",
    'Größe, naïveté, 東京, 😀 — 3.14159 and a JSON key: {"a": [1, 2]}',
]
"""Never change them: their vectors are what makes shards of different days comparable."""

REFERENCE_COSINE = 0.99
"""bfloat16 against float32 stays above 0.999; another attention or pooling falls below 0.95."""


@dataclass
class LoadedModel:
    """Tokenizer and engine of one spec, with the canary vectors they gave at the start."""

    spec: EmbeddingSpec
    tokenizer: TextTokenizer
    engine: Engine
    canaries: Canaries

    def embed_texts(self, texts: list[str], prompt: str) -> np.ndarray:
        """Vectors of a few texts, first window of each: [texts, dimension], float32."""
        windows = check_tokens(self.tokenizer, texts, prompt)
        return embed_list(self.engine, [found[0].ids for found in windows])


def canary_sequences(tokenizer: TextTokenizer, spec: EmbeddingSpec) -> list[tuple[int, ...]]:
    return [windows[0].ids for windows in tokenizer.windows(CANARY_TEXTS, spec.prompts.document)]


def load_tokenizer(spec: EmbeddingSpec) -> TextTokenizer:
    """The tokenizer alone: seconds before the engine is there. Raises BadJob as `load_model` does."""
    if spec.model == HASH_MODEL:
        return TextTokenizer(byte_tokenizer(), spec)
    from tokenizers import Tokenizer

    folder = model_folder(spec)
    if not (folder / TOKENIZER).is_file():
        raise BadJob(f"{folder} has no {TOKENIZER}")
    try:  # the file itself: AutoTokenizer may rebuild it into one that gives other ids
        return TextTokenizer(Tokenizer.from_file(str(folder / TOKENIZER)), spec)
    except WorkerError:
        raise
    except Exception as error:  # the Rust library raises bare Exception
        raise BadJob(f"{folder / TOKENIZER} cannot be read: {error}") from error


def load_model(spec: EmbeddingSpec) -> LoadedModel:
    """Raises BadJob before the engine is loaded where the weights are missing or not the spec's."""
    engine: Engine
    if spec.model == HASH_MODEL:
        tokenizer, engine = load_tokenizer(spec), HashEngine(spec)
    else:
        folder = model_folder(spec)
        check_weights(spec, folder)
        declared = declared_by(folder)
        check_declared(spec, declared)
        tokenizer = load_tokenizer(spec)
        check_capitals(declared, tokenizer)
        from embed_worker.engine.vllm import VllmEngine

        engine = VllmEngine(spec, folder)
    try:
        vectors = embed_list(engine, canary_sequences(tokenizer, spec))
    except ValueError as error:
        raise BadJob(f"{spec.model} refuses a plain text: {error}") from error
    if not np.isfinite(vectors).all():
        raise BadJob(f"{spec.model} gives non-finite vectors in {spec.dtype}; try dtype: bfloat16 or float32")
    model = LoadedModel(spec, tokenizer, engine, Canaries.of(CANARY_TEXTS, vectors))
    check_references(model)
    return model


def check_references(model: LoadedModel) -> None:
    """Holds the loaded model against the vectors that the spec says are right."""
    references = model.spec.references
    if not references:
        return
    try:
        vectors = model.embed_texts([r.text for r in references], model.spec.prompts.document)
    except ValueError as error:
        raise BadJob(f"embedding.references: {error}") from error
    for reference, vector in zip(references, vectors, strict=True):
        wanted = np.asarray(reference.vector, dtype=np.float32)
        if len(wanted) > len(vector):
            raise BadJob(
                f"the reference of {reference.text!r} has {len(wanted)} components, {model.spec.model} makes "
                f"{len(vector)}; correct embedding.references, or the model"
            )
        got = vector[: len(wanted)]
        norms = float(np.linalg.norm(wanted) * np.linalg.norm(got))
        cosine = float(wanted @ got) / norms if norms else 0.0
        if not cosine >= REFERENCE_COSINE:
            raise BadJob(
                f"{model.spec.model} gives another vector for {reference.text!r} than embedding.references: cosine "
                f"{cosine:.4f}, {REFERENCE_COSINE} is wanted. Pooling, attention, prompt or weights are not the "
                "reference's; nothing was embedded"
            )
