"""What a model's own files say of its use, as sentence-transformers writes them, held against the spec.

Sources: modules.json, the config.json of its Pooling, sentence_bert_config.json, config_sentence_transformers.json.
"""

import string
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from embed_worker.engine.tokens import TOKENIZER, TextTokenizer
from embed_worker.errors import BadJob
from embed_worker.lake.spec import EmbeddingSpec

MODULES = "modules.json"
SETTINGS = "config_sentence_transformers.json"
TRANSFORMER = "sentence_*_config.json"
"""Of the Transformer module; the `*` is bert in most, roberta and others in old ones."""
POOLING = {"mean_tokens": "mean", "cls_token": "cls", "lasttoken": "last"}
"""Names of the Pooling module → the spec's."""
DOCUMENT = ("document", "passage", "corpus")
"""Names under which models keep the prompt of their documents; the first that is there counts."""
KNOWN = {"Transformer", "Pooling", "Normalize", "Dropout"}
"""Modules that the spec's keys speak of, or that do nothing to a vector."""
CAPITALS = " ".join(["Great KETTLE, Boils Water", *string.ascii_uppercase])


@dataclass(frozen=True)
class Declared:
    """None, or nothing, is what the files do not say."""

    folder: Path
    poolings: list[str] = field(default_factory=list)
    """In the spec's words; of several modes at once `mean+cls`."""
    normalizes: bool | None = None
    others: list[str] = field(default_factory=list)
    """Modules that change vectors and that the spec has no key for, such as Dense."""
    max_tokens: int | None = None
    lowers: Path | None = None
    """The file that says do_lower_case."""
    prompts: Mapping[str, str] = field(default_factory=dict)
    default_prompt: str | None = None
    """Name of the prompt that is put before every text where none is asked for."""
    similarity: str | None = None

    @property
    def document_prompt(self) -> str:
        """Before a document, as far as the files say."""
        named = next((self.prompts[name] for name in DOCUMENT if name in self.prompts), None)
        return named if named is not None else self.prompts.get(self.default_prompt or "", "")

    @property
    def query_prompt(self) -> str:
        return self.prompts.get("query", "")


def declared_by(folder: Path) -> Declared:
    """Raises BadJob where a file is there and cannot be read."""
    poolings, normalizes, others = _modules(folder)
    max_tokens, lowers = _transformer(folder)
    settings = _json(folder / SETTINGS) or {}
    prompts = settings.get("prompts") or {}
    if not isinstance(prompts, dict) or not all(isinstance(text, str | None) for text in prompts.values()):
        raise BadJob(f"{folder / SETTINGS}: prompts is no mapping of names to texts")
    return Declared(
        folder, poolings, normalizes, others, max_tokens, lowers, {name: text or "" for name, text in prompts.items()},
        settings.get("default_prompt_name"), settings.get("similarity_fn_name"),
    )  # fmt: skip


def check_declared(spec: EmbeddingSpec, declared: Declared) -> None:
    """Raises BadJob with the key to write where the spec says something else than the model's files."""
    folder = declared.folder
    for pooling in declared.poolings:
        if pooling != spec.pooling:
            raise BadJob(f"the spec says pooling: {spec.pooling}, but {folder} declares {pooling}; correct the spec")
    if declared.max_tokens is not None and spec.max_tokens > declared.max_tokens:
        raise BadJob(
            f"the spec says max_tokens: {spec.max_tokens}, but {folder} declares max_seq_length {declared.max_tokens}; "
            f"write max_tokens: {declared.max_tokens}"
        )
    if declared.normalizes and not spec.normalize:
        raise BadJob(f"the spec says normalize: false, but {folder} has a Normalize module; write normalize: true")
    if declared.similarity == "dot" and not declared.normalizes and spec.normalize:
        raise BadJob(
            f"{folder} is compared by dot product and has no Normalize module: the lengths of its vectors count; write "
            "normalize: false"
        )
    if declared.others and not spec.references:
        raise BadJob(
            f"{folder} has modules that the spec has no key for: {', '.join(declared.others)}. Give "
            "embedding.references, vectors of the whole model, and each job proves that its own are those"
        )
    document, query = declared.document_prompt, declared.query_prompt
    if document and spec.prompts.document != document:
        raise BadJob(
            f"the spec says prompts.document: {spec.prompts.document!r}, but {folder / SETTINGS} declares "
            f"{document!r}; write prompts: {{document: {_quoted(document)}}}"
        )
    if query and not spec.prompts.query:
        raise BadJob(
            f"the spec has no prompts.query, but {folder / SETTINGS} declares one; write prompts: "
            f"{{query: {_quoted(query)}}}, or your own instruction"
        )


def check_capitals(declared: Declared, tokenizer: TextTokenizer) -> None:
    """Raises BadJob where the model wants small letters and its tokenizer keeps capitals."""
    if declared.lowers is not None and _ids(tokenizer, CAPITALS) != _ids(tokenizer, CAPITALS.lower()):
        raise BadJob(
            f"{declared.lowers} says do_lower_case: true, but {declared.folder / TOKENIZER} keeps capitals, which the "
            f'model has not learnt; put {{"type": "Lowercase"}} first into the normalizer of {TOKENIZER}'
        )


def _quoted(text: str) -> str:
    """As YAML takes it."""
    return orjson.dumps(text).decode()


def _json(path: Path) -> dict[str, Any] | None:
    try:
        found = orjson.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (ValueError, OSError) as error:
        raise BadJob(f"{path} cannot be read: {error!r}") from error
    if not isinstance(found, dict):
        raise BadJob(f"{path} cannot be read: it holds no JSON object")
    return found


def _modules(folder: Path) -> tuple[list[str], bool | None, list[str]]:
    """The poolings, whether there is a Normalize, and modules that are none of KNOWN."""
    try:
        modules = orjson.loads((folder / MODULES).read_bytes())
        kinds = [(str(m["type"]).rsplit(".", 1)[-1], str(m["path"])) for m in modules]
        found = [
            orjson.loads((folder / path / "config.json").read_bytes()) for kind, path in kinds if kind == "Pooling"
        ]
        poolings = [_pooling(config) for config in found]
    except FileNotFoundError:
        return [], None, []  # nothing is declared
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadJob(f"{folder}: modules.json or a Pooling config.json in it cannot be read: {error!r}") from error
    return poolings, any(kind == "Normalize" for kind, _ in kinds), [kind for kind, _ in kinds if kind not in KNOWN]


def _pooling(config: dict[str, Any]) -> str:
    if "pooling_mode" in config:
        found = [str(config["pooling_mode"])]
    else:
        prefix = "pooling_mode_"
        found = [key.removeprefix(prefix) for key, on in config.items() if key.startswith(prefix) and on is True]
    return "+".join(POOLING.get(name, name) for name in found)


def _transformer(folder: Path) -> tuple[int | None, Path | None]:
    """max_seq_length, and the file that says do_lower_case."""
    longest: int | None = None
    lowers: Path | None = None
    for path in sorted(folder.glob(TRANSFORMER)):
        config = _json(path) or {}
        if (tokens := config.get("max_seq_length")) is not None:
            if not isinstance(tokens, int):
                raise BadJob(f"{path} cannot be read: max_seq_length {tokens!r}")
            longest = tokens if longest is None else min(longest, tokens)
        if config.get("do_lower_case"):
            lowers = path
    return longest, lowers


def _ids(tokenizer: TextTokenizer, text: str) -> list[tuple[int, ...]]:
    return [window.ids for window in tokenizer.windows([text])[0]]
