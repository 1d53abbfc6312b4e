"""From a spec to a loaded model: find the weights, prove them, load tokenizer and engine."""

import string
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from embed_worker.engine.base import Engine, embed_list
from embed_worker.engine.hash import MODEL as HASH_MODEL
from embed_worker.engine.hash import HashEngine, byte_tokenizer
from embed_worker.engine.tokens import TextTokenizer, check_tokens
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
TOKENIZER = "tokenizer.json"
POOLING = {"mean_tokens": "mean", "cls_token": "cls", "lasttoken": "last"}
"""Names of sentence-transformers' Pooling module → the spec's."""
TRANSFORMER = "sentence_*_config.json"
"""Of sentence-transformers' Transformer module; the `*` is bert in most, roberta and others in old ones."""
CAPITALS = " ".join(["Great KETTLE, Boils Water", *string.ascii_uppercase])


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
        check_pooling(spec, folder)
        tokenizer = load_tokenizer(spec)
        check_transformer(spec, folder, tokenizer)
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


def check_pooling(spec: EmbeddingSpec, folder: Path) -> None:
    """Holds the spec's pooling against the one that a sentence-transformers model declares for itself."""
    try:
        modules = orjson.loads((folder / "modules.json").read_bytes())
        paths = [str(m["path"]) for m in modules if str(m["type"]).rsplit(".", 1)[-1] == "Pooling"]
        declared = [_declared_pooling(orjson.loads((folder / path / "config.json").read_bytes())) for path in paths]
    except FileNotFoundError:
        return  # nothing is declared
    except (ValueError, KeyError, TypeError) as error:
        raise BadJob(f"{folder}: modules.json or a Pooling config.json in it cannot be read: {error!r}") from error
    for pooling in declared:
        if pooling != spec.pooling:
            raise BadJob(f"the spec says pooling: {spec.pooling}, but {folder} declares {pooling}; correct the spec")


def _declared_pooling(config: dict[str, Any]) -> str:
    if "pooling_mode" in config:
        found = [str(config["pooling_mode"])]
    else:
        prefix = "pooling_mode_"
        found = [key.removeprefix(prefix) for key, on in config.items() if key.startswith(prefix) and on is True]
    return "+".join(POOLING.get(name, name) for name in found)


def check_transformer(spec: EmbeddingSpec, folder: Path, tokenizer: TextTokenizer) -> None:
    """Holds the spec and the tokenizer against what sentence-transformers would do before the model sees a text."""
    for path in sorted(folder.glob(TRANSFORMER)):
        try:
            config = orjson.loads(path.read_bytes())
            longest, lowers = config.get("max_seq_length"), config.get("do_lower_case")
            too_long = longest is not None and spec.max_tokens > longest
        except (ValueError, TypeError, AttributeError) as error:
            raise BadJob(f"{path} cannot be read: {error!r}") from error
        if too_long:
            raise BadJob(
                f"the spec says max_tokens: {spec.max_tokens}, but {path} declares max_seq_length {longest}; "
                f"write max_tokens: {longest}"
            )
        if lowers and _ids(tokenizer, CAPITALS) != _ids(tokenizer, CAPITALS.lower()):
            raise BadJob(
                f"{path} says do_lower_case: true, but {folder / TOKENIZER} keeps capitals, which the model has not "
                f'learnt; put {{"type": "Lowercase"}} first into the normalizer of {TOKENIZER}'
            )


def _ids(tokenizer: TextTokenizer, text: str) -> list[tuple[int, ...]]:
    return [window.ids for window in tokenizer.windows([text])[0]]
