"""Reads pipeline files. A fault names the file, the key and what the key takes."""

import difflib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from embed_assets.spec.pipeline import EmbeddingPipeline
from embed_assets.spec.translation import AssetNames
from embed_assets.spec.yaml_words import changed_words

Key = tuple[int | str, ...]
"""Where a value stands: `("datasets", 0, "source")`."""

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


def read_documents(path: Path) -> dict[int, Any]:
    """The YAML documents of a file by the line they begin at, empty ones left out. Raises SpecError."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"{path}: cannot be read: {error}") from error
    try:
        documents = _documents(text)
        size = _size(documents, {})
    except Exception as error:  # PyYAML lets KeyError, AttributeError and others out of odd tags
        raise SpecError(f"{path}: not valid YAML: {' '.join(str(error).split())[:500]}") from None
    if size > MAX_VALUES:
        raise SpecError(f"{path}: its aliases unfold to more than {MAX_VALUES:,} values")
    words = [word for root in yaml.compose_all(text, yaml.SafeLoader) for word in changed_words(_pipeline_node(root))]
    if words:
        raise SpecError("\n".join(f"{path}: {' '.join(word.split())}" for word in list(dict.fromkeys(words))[:20]))
    return documents


def _pipeline_node(root: yaml.Node) -> yaml.Node:
    """The pipeline itself: in a defs.yaml it stands under `attributes`."""
    entries = root.value if isinstance(root, yaml.MappingNode) else []
    found = {key.value: value for key, value in entries if isinstance(key, yaml.ScalarNode)}
    return found["attributes"] if {"type", "attributes"} <= found.keys() else root


def _documents(text: str) -> dict[int, Any]:
    loader, found = _UniqueKeys(text), {}
    try:
        while loader.check_node():  # type: ignore[no-untyped-call]
            node: Any = loader.get_node()  # type: ignore[no-untyped-call]
            found[node.start_mark.line + 1] = loader.construct_document(node)  # type: ignore[no-untyped-call]
    finally:
        loader.dispose()  # type: ignore[no-untyped-call]
    return {line: document for line, document in found.items() if document is not None}


def pipeline_of(value: Any, place: Callable[[Key], str]) -> EmbeddingPipeline:
    """Raises SpecError; `place` gives what the line of a fault begins with."""
    try:
        return EmbeddingPipeline.model_validate(value)
    except ValidationError as error:
        raise SpecError("\n".join(f"{place(key)}: {told}" for key, told in _explain(error))) from None


def dotted(key: Key) -> str:
    return ".".join(map(str, key)) or "the pipeline"


def load_pipeline(path: Path) -> EmbeddingPipeline:
    """Raises SpecError."""
    documents = list(read_documents(path).values())
    if len(documents) > 1:
        raise SpecError(f"{path}: not valid YAML: it holds {len(documents)} documents; a pipeline file is one")
    if not documents or not isinstance(documents[0], dict):
        raise SpecError(f"{path}: a pipeline is a mapping with the keys {', '.join(EmbeddingPipeline.model_fields)}")
    return pipeline_of(documents[0], lambda key: f"{path}: {dotted(key)}")


def load_pipelines(paths: Iterable[Path]) -> list[EmbeddingPipeline]:
    """All pipelines of a deployment. Raises SpecError for the first file that cannot be used."""
    pipelines, faults = load_apart(paths)
    if faults:
        raise next(iter(faults.values()))
    return list(pipelines.values())


def load_apart(paths: Iterable[Path]) -> tuple[dict[Path, EmbeddingPipeline], dict[Path, SpecError]]:
    """The pipelines that can be used, and why each other file cannot: one bad file takes no other down."""
    loaded: dict[Path, EmbeddingPipeline] = {}
    faults: dict[Path, SpecError] = {}
    for path in paths:
        try:
            one = load_pipeline(path)
            agree((str(at), pipeline) for at, pipeline in (*loaded.items(), (path, one)))
        except SpecError as error:
            faults[path] = error
        else:
            loaded[path] = one
    return loaded, faults


def agree(loaded: Iterable[tuple[str, EmbeddingPipeline]]) -> None:
    """Raises SpecError unless all may stand beside each other: they share no name, no asset key and no dataset, whose
    snapshots they would move for each other. Each comes with where it is written."""
    names: dict[str, str] = {}
    keys: dict[tuple[str, ...], str] = {}
    datasets: dict[str, tuple[str, str]] = {}
    for path, pipeline in loaded:
        if pipeline.name in names:
            raise SpecError(f"{path} and {names[pipeline.name]} both name their pipeline {pipeline.name!r}")
        names[pipeline.name] = path
        for asset in AssetNames.model_fields:
            key = tuple(pipeline.translation.path(pipeline.name, asset))
            if keys.setdefault(key, path) != path:
                raise SpecError(
                    f"{path} and {keys[key]} both have an asset {'/'.join(key)!r}; "
                    "give one of them another translation.key or translation.key_prefix"
                )
        for dataset in pipeline.datasets:
            other, owner = datasets.setdefault(dataset.name, (path, pipeline.name))
            if owner != pipeline.name:
                raise SpecError(
                    f"{path} and {other} both have a dataset {dataset.name!r}; "
                    "give it another name in one of them, with the same source if you like"
                )


def _explain(error: ValidationError) -> list[tuple[Key, str]]:
    """What is to be said of each key at fault, whichever of the types it may have it misses."""
    faults: dict[Key, dict[str, str]] = {}
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
    return [(key, f"{' or '.join(messages)}{next(reversed(messages.values()))}") for key, messages in faults.items()]


def _key_of(location: Key) -> tuple[Key, list[str], str]:
    """The key as it stands in the file, the names that are allowed at its place, and what its field takes.

    Behind a field that takes several types, pydantic adds the name of the type it tried: that is no key.
    """
    model: type[BaseModel] | None = EmbeddingPipeline
    names: list[str] = list(EmbeddingPipeline.model_fields)
    where: list[int | str] = []
    about = ""
    free = False
    for part in location:
        if isinstance(part, int):
            where.append(part)
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
    return tuple(where), names, about
