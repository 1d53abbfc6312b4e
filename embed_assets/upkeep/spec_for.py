"""The `embedding:` block of a model, from its own files: pooling, prompts, lengths, and pins of its weights."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from embed_worker.engine.declared import Declared, declared_by
from embed_worker.errors import BadJob
from embed_worker.extras import need
from embed_worker.lake.files import sha256_of
from embed_worker.lake.spec import EmbeddingSpec

MAX_TOKENS = 512
"""Longer inputs are rarely worth their time; the model's own limit stands in a note."""
ENCODERS = ("bert", "roberta", "mpnet", "electra", "deberta", "nomic", "new", "t5")
"""In the `model_type` of models that look both ways without being told."""
DTYPES = {"float32": "float32", "float16": "float16", "bfloat16": "bfloat16"}
SMALL = ["*.json", "*.txt", "*.model"]
"""Of a hub's files, those that say how the model is used."""


class NoSpec(Exception):
    """There is no spec for the model; the message says why and what to do."""


@dataclass(frozen=True)
class Found:
    """A block that a pipeline takes, and what its files leave open."""

    embedding: dict[str, Any]
    notes: list[str]


def spec_for(model: str, folder: Path, sha256: Mapping[str, str], revision: str | None = None) -> Found:
    """Of a folder with the model's small files. Raises NoSpec where they say something that no spec can."""
    try:
        declared = declared_by(folder)
        config = _object(folder / "config.json")
        tokenizer = _object(folder / "tokenizer_config.json")
    except (BadJob, OSError, ValueError) as error:
        raise NoSpec(f"{model}: {error}") from error
    if not sha256:
        raise NoSpec(f"{model} has no *.safetensors; weights of other kinds can run code when they are loaded")
    notes: list[str] = []
    block: dict[str, Any] = {"model": model}
    if revision is not None:
        block["revision"] = revision
    block |= {"sha256": dict(sorted(sha256.items()))}
    block |= {"pooling": _pooling(declared, notes), "attention": _attention(config, notes)}
    block["normalize"] = bool(declared.normalizes) or declared.similarity != "dot"
    block["dtype"] = _dtype(config, notes)
    block["max_tokens"] = _max_tokens(declared, config, tokenizer, notes)
    if tokenizer.get("add_eos_token") and block["pooling"] == "last":
        block["append_token"] = _text_of(tokenizer.get("eos_token"))
    prompts = {"document": declared.document_prompt, "query": declared.query_prompt}
    if any(prompts.values()):
        block["prompts"] = prompts
    if declared.others:
        notes.append(f"it has {', '.join(declared.others)} modules: give `references`, vectors of the whole model")
    try:
        EmbeddingSpec.model_validate(block)
    except ValueError as error:
        raise NoSpec(f"{model}: its files make no valid spec: {error}") from error
    return Found(block, notes)


def of_folder(model: str, folder: Path) -> Found:
    """Of a model on this machine."""
    if not (folder / "config.json").is_file():
        raise NoSpec(f"{folder} holds no model: there is no config.json")
    return spec_for(model, folder, {path.name: sha256_of(path) for path in folder.glob("*.safetensors")})


def of_hub(model: str, revision: str | None) -> Found:
    """Of a model on the hub: its small files are fetched, the digests of its weights are the hub's own."""
    need("plan")
    from huggingface_hub import HfApi, snapshot_download

    try:
        info = HfApi().model_info(model, revision=revision, files_metadata=True)
        folder = Path(snapshot_download(model, revision=info.sha, allow_patterns=SMALL))
    except Exception as error:  # the hub's library has a dozen, and the network its own
        raise NoSpec(
            f"cannot ask the hub for {model} (revision {revision}): {type(error).__name__}: {error}. A folder with it "
            "on this machine can be named with --from"
        ) from error
    pins = {one.rfilename: one.lfs.sha256 for one in info.siblings or [] if one.lfs}
    weights = {name: pin for name, pin in pins.items() if name.endswith(".safetensors") and "/" not in name}
    return spec_for(model, folder, weights, info.sha)


def _object(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    found = orjson.loads(path.read_bytes())
    if not isinstance(found, dict):
        raise ValueError(f"{path} holds no JSON object")
    return found


def _pooling(declared: Declared, notes: list[str]) -> str:
    if len(declared.poolings) > 1 or (declared.poolings and declared.poolings[0] not in ("mean", "cls", "last")):
        said = ", ".join(declared.poolings)
        raise NoSpec(f"{declared.folder} declares the pooling {said}; mean, cls or last is known")
    if not declared.poolings:
        notes.append("pooling: its files say none; mean is a guess, its card knows")
    return declared.poolings[0] if declared.poolings else "mean"


def _attention(config: Mapping[str, Any], notes: list[str]) -> str:
    said = config.get("use_bidirectional_attention")
    if said is None and config.get("is_causal") is not None:
        said = not config["is_causal"]
    if said is not None:
        return "bidirectional" if said else "causal"
    if any(name in str(config.get("model_type", "")).lower() for name in ENCODERS):
        return "bidirectional"
    notes.append(
        "attention: its files say nothing; causal is what such a decoder was made with. Some were trained on as "
        "bidirectional: its card knows, and `references` prove it"
    )
    return "causal"


def _dtype(config: Mapping[str, Any], notes: list[str]) -> str:
    kept = str(config.get("dtype") or config.get("torch_dtype") or "float32").removeprefix("torch.")
    if kept == "float32":
        notes.append("dtype: its weights are float32, exact and slow on a GPU; bfloat16 is another space of vectors")
    return DTYPES.get(kept, "bfloat16")


def _max_tokens(declared: Declared, config: Mapping[str, Any], tokenizer: Mapping[str, Any], notes: list[str]) -> int:
    limits = (declared.max_tokens, config.get("max_position_embeddings"), tokenizer.get("model_max_length"))
    known = [int(limit) for limit in limits if isinstance(limit, int | float) and 8 <= limit <= 1 << 30]
    longest = min(known, default=MAX_TOKENS)
    if longest > MAX_TOKENS:
        notes.append(f"max_tokens: the model takes {longest:,}; longer texts become several windows")
    return min(longest, MAX_TOKENS)


def _text_of(token: Any) -> str | None:
    return token.get("content") if isinstance(token, dict) else token
