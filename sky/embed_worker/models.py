"""From a spec to a loaded model: find the weights, prove them, load tokenizer and engine."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from tokenizers import Tokenizer

from embed_worker.engine import Engine, embed_list
from embed_worker.errors import BadJob, WorkerError
from embed_worker.files import sha256_of
from embed_worker.hash_engine import MODEL as HASH_MODEL
from embed_worker.hash_engine import HashEngine, byte_tokenizer
from embed_worker.manifests import Canaries
from embed_worker.model_spec import EmbeddingSpec
from embed_worker.tokens import TextTokenizer

CANARY_TEXTS = [
    "The quick brown fox jumps over the lazy dog.",
    "A three-hour film about time, memory and a lost violin; I would see it again tomorrow.",
    'Größe, naïveté, 東京, 😀 — 3.14159 and a JSON key: {"a": [1, 2]}',
]
"""Never change them: their vectors are what makes shards of different days comparable."""

POOLING = {"mean_tokens": "mean", "cls_token": "cls", "lasttoken": "last"}
"""Names of sentence-transformers' Pooling module → the spec's."""


@dataclass
class LoadedModel:
    """Tokenizer and engine of one spec, with the canary vectors they gave at the start."""

    spec: EmbeddingSpec
    tokenizer: TextTokenizer
    engine: Engine
    canaries: Canaries

    def embed_texts(self, texts: list[str], prompt: str) -> np.ndarray:
        """Vectors of a few texts, first window of each: [texts, dimension], float32."""
        windows = self.tokenizer.windows(texts, prompt)
        if empty := [text for text, found in zip(texts, windows, strict=True) if not found]:
            raise ValueError(f"{empty[0]!r} has no tokens")
        return embed_list(self.engine, [found[0].ids for found in windows])


def load_model(spec: EmbeddingSpec) -> LoadedModel:
    """Raises BadJob before the engine is loaded where the weights are missing or not the spec's."""
    engine: Engine
    if spec.model == HASH_MODEL:
        tokenizer, engine = TextTokenizer(byte_tokenizer(), spec), HashEngine(spec)
    else:
        folder = model_folder(spec)
        check_weights(spec, folder)
        check_pooling(spec, folder)
        try:  # tokenizer.json itself: AutoTokenizer may rebuild it into one that gives other ids
            tokenizer = TextTokenizer(Tokenizer.from_file(str(folder / "tokenizer.json")), spec)
        except WorkerError:
            raise
        except Exception as error:  # the Rust library raises bare Exception
            raise BadJob(f"{folder / 'tokenizer.json'} cannot be read: {error}") from error
        from embed_worker.vllm_engine import VllmEngine

        engine = VllmEngine(spec, folder)
    canaries = [w[0].ids for w in tokenizer.windows(CANARY_TEXTS, spec.prompts.document)]
    try:
        vectors = embed_list(engine, canaries)
    except ValueError as error:
        raise BadJob(f"{spec.model} refuses a plain text: {error}") from error
    if not np.isfinite(vectors).all():
        raise BadJob(f"{spec.model} gives non-finite vectors in {spec.dtype}; try dtype: bfloat16 or float32")
    return LoadedModel(spec, tokenizer, engine, Canaries.of(CANARY_TEXTS, vectors))


def model_folder(spec: EmbeddingSpec) -> Path:
    """The folder with the weights: `location`, or the hub's copy of `model` at `revision`."""
    if spec.location is not None:
        folder = Path(spec.location).expanduser()
        if not (folder / "config.json").is_file():
            raise BadJob(
                f"no model at {folder} (no config.json there). Fetch {spec.model} into that folder, "
                "or correct embedding.location in the pipeline"
            )
        return folder
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    patterns = ["*.json", "*.safetensors", "*.txt", "*.model", *(["*.py"] if spec.trust_remote_code else [])]
    try:
        return Path(snapshot_download(spec.model, revision=spec.revision, allow_patterns=patterns))
    except (RepositoryNotFoundError, RevisionNotFoundError, HFValidationError) as error:
        raise BadJob(f"the hub has no model {spec.model} (revision {spec.revision}), or it is not public") from error
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise WorkerError(f"cannot fetch {spec.model} from the hub: {error}") from error


def check_weights(spec: EmbeddingSpec, folder: Path) -> None:
    """Safetensors only, and every pinned digest right."""
    if not (folder / "tokenizer.json").is_file():
        raise BadJob(f"{folder} has no tokenizer.json")
    if not any(folder.glob("*.safetensors")):
        raise BadJob(f"{folder} has no *.safetensors; pickled weights are not loaded")
    for name, digest in spec.sha256.items():
        path = folder / name
        if not path.is_file():
            raise BadJob(f"{path} is missing; embedding.sha256 names it")
        if (found := sha256_of(path)) != digest:
            raise BadJob(f"{path} has sha256 {found}, the spec wants {digest}: not the pinned weights")


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
