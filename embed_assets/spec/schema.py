"""The pipeline file's JSON Schema and reference table, made from the models: `python -m embed_assets.spec.schema`."""

import json
import sys
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from embed_assets.spec.pipeline import EmbeddingPipeline

DOCS = Path("docs")
SCHEMA, TABLE = "pipeline.schema.json", "pipeline.md"
HEAD = """# The pipeline file

A pipeline is a YAML file. Made from the models by `python -m embed_assets.spec.schema`: do not edit it here.
An editor that speaks JSON Schema completes and checks a pipeline that begins with this line:

    # yaml-language-server: $schema=../docs/pipeline.schema.json
"""


def schema_text() -> str:
    """JSON Schema of a pipeline file."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **EmbeddingPipeline.model_json_schema()}
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def table_text() -> str:
    """Every key of a pipeline file: type, default, what it means."""
    return "\n".join([HEAD, *_section(EmbeddingPipeline, "")])


def write(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / SCHEMA).write_text(schema_text(), encoding="utf-8")
    (folder / TABLE).write_text(table_text(), encoding="utf-8")


def _section(model: type[BaseModel], prefix: str) -> list[str]:
    lines = [f"## {'`' + prefix + '`' if prefix else 'Top level'}", ""]
    if prefix and model.__doc__:
        lines += [" ".join(model.__doc__.split()), ""]
    lines += ["| Key | Takes | Default | Meaning |", "|---|---|---|---|"]
    inner: list[tuple[type[BaseModel], str]] = []
    for name, info in model.model_fields.items():
        found = _model_in(info.annotation)
        if found is not None:
            inner.append((found, f"{prefix}{'.' if prefix else ''}{name}{'[]' if _is_list(info.annotation) else ''}"))
        cells = [f"`{name}`", _takes(info, found), _default(info), " ".join((info.description or "").split())]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    lines.append("")
    for nested, path in inner:
        lines += _section(nested, path)
    return lines


def _takes(info: FieldInfo, model: type[BaseModel] | None) -> str:
    if model is not None:
        return "a list of the keys below" if _is_list(info.annotation) else "the keys below"
    limits = [f"{sign} {getattr(m, name)}" for m in info.metadata for name, sign in LIMITS if hasattr(m, name)]
    return ", ".join([_words(info.annotation), *limits])


LIMITS = (("ge", "at least"), ("le", "at most"))


def _words(kind: Any) -> str:
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _words(parts[0])
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in parts)
    if origin is list:
        return f"list of {_words(parts[0])}"
    if origin is dict:
        return "mapping" if parts[1] is Any else f"mapping to {_words(parts[1])}"
    if parts:  # a union
        return " or ".join(dict.fromkeys(_words(part) for part in parts if part is not NoneType))
    return {str: "text", int: "integer", float: "number", bool: "`true`, `false`"}.get(kind, str(kind))


def _default(info: FieldInfo) -> str:
    if info.is_required():
        return "**required**"
    value = info.get_default(call_default_factory=True)
    if isinstance(value, BaseModel):
        return ""
    return "" if value is None else f"`{json.dumps(value)}`"


def _model_in(kind: Any) -> type[BaseModel] | None:
    for part in (kind, *get_args(kind)):
        if isinstance(part, type) and issubclass(part, BaseModel):
            return part
    return None


def _is_list(kind: Any) -> bool:
    return get_origin(kind) is list


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else DOCS)
