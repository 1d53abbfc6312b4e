"""A pipeline as the `attributes` of a defs.yaml: Jinja is resolved in all that is no template of our own, and paths are
relative to the file."""

import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from jinja2 import StrictUndefined, Undefined
from jinja2.nativetypes import NativeEnvironment, NativeTemplate
from pydantic import BaseModel

from embed_assets.spec.load import Key, SpecError
from embed_assets.spec.pipeline import EmbeddingPipeline

AS_WRITTEN = (
    "datasets.*.text", "datasets.*.id", "embedding.prompts.*", "embedding.references.*.text", "embedding.append_token",
)  # fmt: skip
"""Templates of our own, in which `{{` is a brace, and texts that are embedded: Jinja leaves them alone."""
PATHS = ("datasets.*.source", "datasets.*.source.*", "embedding.location", "plan.tokenizer")

_MARKS = re.compile(r"\{[{%#]")


def _one_value(values: Iterable[Any]) -> Any:
    """What a template gives: one expression its own value, all else text. Jinja's own would make 123 of '123'."""
    nodes = list(values)
    return nodes[0] if len(nodes) == 1 else "".join(str(node) for node in nodes)


def _there(value: Any) -> Any:
    """Dagster's `env.NAME` is None where the variable is not set, and a text of it would say 'None'."""
    if isinstance(value, Undefined):
        str(value)  # raises, and says which
    if value is None:
        raise ValueError("it gives nothing; where a variable may not be set, `env('NAME', 'default')` has a default")
    return value


class _Environment(NativeEnvironment):
    concat = staticmethod(_one_value)


class _Template(NativeTemplate):
    environment_class = _Environment


_Environment.template_class = _Template
_JINJA = _Environment(undefined=StrictUndefined, finalize=_there, keep_trailing_newline=True)


def resolved(attributes: Any, scope: Mapping[str, Any], folder: Path | None, place: Callable[[Key], str]) -> Any:
    """The attributes with Jinja resolved and paths made absolute. Raises SpecError; `place` begins its line."""

    def walk(value: Any, kinds: list[Any], key: Key) -> Any:
        if isinstance(value, dict):
            return {k: walk(v, _inside(kinds, k), (*key, k)) for k, v in value.items()}
        if isinstance(value, list):
            return [walk(v, _inside(kinds, None), (*key, i)) for i, v in enumerate(value)]
        if isinstance(value, str) and _MARKS.search(value) and not _matches(key, AS_WRITTEN):
            value = _rendered(value, kinds, key)
        if isinstance(value, str) and folder is not None and _matches(key, PATHS):
            value = _beside(value, folder)
        return value

    def _rendered(text: str, kinds: list[Any], key: Key) -> Any:
        try:
            value = _JINJA.from_string(text).render(**scope)
        except Exception as error:  # whatever a user's own variable raises, too
            told = " ".join(str(error).split())
            raise SpecError(f"{place(key)}: {text!r} cannot be resolved: {told}") from None
        if isinstance(value, str) and not any(kind in (str, Any) or get_origin(kind) is Literal for kind in kinds):
            try:
                return json.loads(value)  # a variable's `8` or `true`, for a key that takes no text
            except ValueError:
                return value
        return value

    return walk(attributes, [EmbeddingPipeline], ())


def _matches(key: Key, patterns: tuple[str, ...]) -> bool:
    return any(
        len(parts) == len(key) and all(part in ("*", str(one)) for part, one in zip(parts, key, strict=True))
        for parts in (pattern.split(".") for pattern in patterns)
    )


def _kinds(annotation: Any) -> list[Any]:
    """The types that a field takes."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _kinds(get_args(annotation)[0])
    if origin in (Union, UnionType):
        return [kind for part in get_args(annotation) for kind in _kinds(part)]
    return [] if annotation is NoneType else [annotation]


def _inside(kinds: list[Any], name: Any) -> list[Any]:
    """The types of what stands under a key, or in a list where `name` is None."""
    found: list[Any] = []
    for kind in kinds:
        if kind is Any:
            found.append(Any)
        elif get_origin(kind) is list and name is None:
            found += _kinds(get_args(kind)[0])
        elif get_origin(kind) is dict and name is not None:
            found += _kinds(get_args(kind)[1])
        elif isinstance(kind, type) and issubclass(kind, BaseModel) and name in kind.model_fields:
            found += _kinds(kind.model_fields[name].annotation)
    return found


def _beside(path: str, folder: Path) -> str:
    """A path relative to the file's folder; of a chain such as zip://a.csv::b.zip, its last link."""
    head, link, last = path.rpartition("::")
    if not last.strip() or "://" in last or last.startswith(("/", "~")):
        return path
    return f"{head}{link}{os.path.normpath(folder.absolute() / last)}"


def attributes_schema() -> dict[str, Any]:
    """JSON Schema of the attributes: the pipeline file's, where Jinja may stand in the place of each value."""
    return _with_jinja(EmbeddingPipeline.model_json_schema())


_IS_JINJA = {"type": "string", "pattern": _MARKS.pattern}


def _with_jinja(schema: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in schema.items():
        if name in ("$defs", "properties"):
            inner = {key: _with_jinja(one) for key, one in value.items()}
            found[name] = {key: _or_jinja(one) for key, one in inner.items()} if name == "properties" else inner
        elif name in ("items", "additionalProperties"):
            found[name] = _or_jinja(_with_jinja(value)) if isinstance(value, dict) else value
        elif name == "anyOf":
            found[name] = [_with_jinja(one) for one in value]
        else:
            found[name] = value
    return found


def _or_jinja(schema: dict[str, Any]) -> dict[str, Any]:
    about: dict[str, Any] = {name: schema[name] for name in ("title", "description", "default") if name in schema}
    rest = {name: value for name, value in schema.items() if name not in about}
    return {**about, "if": _IS_JINJA, "else": rest}  # not anyOf: a fault inside is then told where it is
