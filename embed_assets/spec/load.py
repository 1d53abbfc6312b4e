"""Reads pipeline files. A fault names the file, the key and what the key takes."""

import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from embed_assets.spec.pipeline import EmbeddingPipeline
from embed_assets.spec.yaml_words import changed_words

MAX_VALUES = 100_000
"""A small file can unfold to billions of values through its aliases."""


class SpecError(ValueError):
    """A pipeline file cannot be used."""


class _UniqueKeys(yaml.SafeLoader):
    """YAML lets a later key silently replace an earlier one; here it is a fault."""


def _mapping(loader: yaml.SafeLoader, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
    seen: set[Any] = set()
    for key_node, _ in node.value:
        if key_node.tag == "tag:yaml.org,2002:merge":
            continue  # `<<: *anchor` may be there, and its keys may be overridden
        key = loader.construct_object(key_node, deep=True)  # type: ignore[no-untyped-call]
        if key in seen:
            raise yaml.constructor.ConstructorError(None, None, f"key {key!r} is there twice", key_node.start_mark)
        seen.add(key)
    return yaml.SafeLoader.construct_mapping(loader, node, deep)


_UniqueKeys.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def _size(value: Any, known: dict[int, int]) -> int:
    """Values in a tree of YAML, aliases unfolded. Raises ValueError where one holds itself."""
    if not isinstance(value, dict | list | set | tuple):
        return 1
    if id(value) in known:
        if known[id(value)] < 0:
            raise ValueError("an alias holds itself")
        return known[id(value)]
    known[id(value)] = -1
    inner = [*value.keys(), *value.values()] if isinstance(value, dict) else value
    known[id(value)] = 1 + sum(_size(one, known) for one in inner)
    return known[id(value)]


def load_pipeline(path: Path) -> EmbeddingPipeline:
    """Raises SpecError."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"{path}: cannot be read: {error}") from error
    try:
        value = yaml.load(text, _UniqueKeys)  # noqa: S506  (a SafeLoader)
        size = _size(value, {})
    except Exception as error:  # PyYAML lets KeyError, AttributeError and others out of odd tags
        raise SpecError(f"{path}: not valid YAML: {' '.join(str(error).split())[:500]}") from error
    if size > MAX_VALUES:
        raise SpecError(f"{path}: its aliases unfold to more than {MAX_VALUES:,} values")
    if not isinstance(value, dict):
        raise SpecError(f"{path}: a pipeline is a mapping with the keys {', '.join(EmbeddingPipeline.model_fields)}")
    root = yaml.compose(text, yaml.SafeLoader)
    if root is not None and (words := list(dict.fromkeys(changed_words(root)))):
        raise SpecError("\n".join(f"{path}: {' '.join(word.split())}" for word in words[:20]))
    try:
        return EmbeddingPipeline.model_validate(value)
    except ValidationError as error:
        raise SpecError("\n".join(f"{path}: {line}" for line in _explain(error))) from error


def load_pipelines(paths: Iterable[Path]) -> list[EmbeddingPipeline]:
    """All pipelines of a deployment. They may share a dataset only where they ingest it alike."""
    loaded = [(path, load_pipeline(path)) for path in paths]
    names: dict[str, Path] = {}
    datasets: dict[str, tuple[Path, Any]] = {}
    for path, pipeline in loaded:
        if pipeline.name in names:
            raise SpecError(f"{path} and {names[pipeline.name]} both name their pipeline {pipeline.name!r}")
        names[pipeline.name] = path
        for dataset in pipeline.datasets:
            identity = {**dataset.ingest_identity(), "source": dataset.sources}
            other, known = datasets.setdefault(dataset.name, (path, identity))
            if known != identity:
                keys = sorted(key for key in identity if identity[key] != known.get(key))
                raise SpecError(
                    f"{path} and {other} both have a dataset {dataset.name!r}, but differ in {', '.join(keys)}; "
                    "give one of them another name"
                )
    return [pipeline for _, pipeline in loaded]


def _explain(error: ValidationError) -> list[str]:
    """One line for each key at fault, whichever of the types it may have it misses."""
    faults: dict[str, dict[str, str]] = {}
    for fault in error.errors():
        location, allowed, about = _key_of(fault["loc"])
        message, got = fault["msg"].removeprefix("Value error, "), ""
        if fault["type"] == "extra_forbidden":
            near = difflib.get_close_matches(str(fault["loc"][-1]), allowed, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            message = f"unknown key; {hint}known keys: {', '.join(allowed)}"
        elif fault["type"] == "missing":
            message, got = "is required", about and f". {about}"
        elif fault["type"] != "value_error":
            message = message.removeprefix("Input ")
            got = f" (got {str(fault['input'])[:80]!r})" + (about and f". {about}")
        messages = faults.setdefault(location, {})
        if messages:
            message = message.removeprefix("should be ")
        messages.setdefault(message, got)
    return [
        f"{where}: {' or '.join(messages)}{next(reversed(messages.values()))}" for where, messages in faults.items()
    ]


def _key_of(location: tuple[int | str, ...]) -> tuple[str, list[str], str]:
    """The key as it stands in the file, the names that are allowed at its place, and what its field takes.

    Behind a field that takes several types, pydantic adds the name of the type it tried: that is no key.
    """
    model: type[BaseModel] | None = EmbeddingPipeline
    names: list[str] = list(EmbeddingPipeline.model_fields)
    where: list[str] = []
    about = ""
    free = False
    for part in location:
        if isinstance(part, int):
            where.append(str(part))
        elif model is not None:
            where.append(part)
            names = list(model.model_fields)
            field = model.model_fields.get(part)
            inner = [] if field is None else [field.annotation, *getattr(field.annotation, "__args__", ())]
            about = " ".join(((field and field.description) or "").split())
            free = any(getattr(kind, "__origin__", None) is dict for kind in inner)
            model = next((t for t in inner if isinstance(t, type) and issubclass(t, BaseModel)), None)
        elif free:  # a key of a mapping that takes any
            where.append(part)
            free = False
    return ".".join(where) or "the pipeline", names, about
