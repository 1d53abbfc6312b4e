"""Words that YAML 1.1 reads as something else than what is written: refused where their text matters, with the cure."""

import re
from collections.abc import Iterator

import yaml

BOOLEANS = re.compile(r"(?i:yes|no|on|off)|TRUE|FALSE|True|False")
NUMBERS = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?")
EXPONENT = re.compile(r"[-+]?[0-9.]+[eE][-+]?[0-9]+")
OCTAL = re.compile(r"[-+]?0[0-9_]+|[-+]?[1-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?")
VALUE_KEYS = ("where", "null_values", "columns")
"""Keys of a dataset whose values and names are words of the source."""
KINDS = {"bool": "true or false", "int": "a number", "float": "a number", "timestamp": "a date", "null": "no value"}


def changed_words(root: yaml.Node) -> Iterator[str]:
    """One sentence for each word, with its key."""
    for dataset, where in _datasets(root):
        for key, value, path in _entries(dataset, where):
            if key in VALUE_KEYS:
                yield from _words(value, path)
    for node, path in _walk(root, "", set()):
        if node.style is None and node.tag == "tag:yaml.org,2002:int" and OCTAL.fullmatch(node.value):
            yield f"{path}: YAML reads {node.value} as {yaml.safe_load(node.value)}; write the number, or quote it"


def _datasets(root: yaml.Node) -> Iterator[tuple[yaml.Node, str]]:
    for key, value, _ in _entries(root, ""):
        if key == "datasets" and isinstance(value, yaml.SequenceNode):
            yield from ((one, f"datasets.{at}") for at, one in enumerate(value.value))


def _entries(node: yaml.Node, where: str) -> Iterator[tuple[str, yaml.Node, str]]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                yield key.value, value, f"{where}.{key.value}".lstrip(".")


def _words(node: yaml.Node, path: str) -> Iterator[str]:
    if isinstance(node, yaml.ScalarNode):
        if (read := _read_as(node)) is not None:
            yield f'{path}: YAML reads {node.value or "nothing"} as {read}; quote it: "{node.value}"'
    elif isinstance(node, yaml.SequenceNode):
        for one in node.value:
            yield from _words(one, path)
    elif isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.style is None and key.tag != "tag:yaml.org,2002:str" and key.value != "<<":
                    yield f'{path}: YAML reads the name {key.value} as {_kind(key)}; quote it: "{key.value}"'
                yield from _words(value, f"{path}.{key.value}")


def _read_as(node: yaml.ScalarNode) -> str | None:
    """What the word becomes, where that is not what is written."""
    text = node.value
    if node.style is not None:
        return None
    if EXPONENT.fullmatch(text):
        return "a text" if node.tag.endswith(":str") else str(yaml.safe_load(text))
    if node.tag == "tag:yaml.org,2002:str":
        return None
    if node.tag == "tag:yaml.org,2002:bool":
        return _kind(node) if BOOLEANS.fullmatch(text) else None
    if node.tag in ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float"):
        if NUMBERS.fullmatch(text) and (node.tag.endswith("int") or repr(float(text)) == text):
            return None
        try:
            return str(yaml.safe_load(text))
        except (yaml.YAMLError, ValueError):
            return "a number"
    return _kind(node)


def _kind(node: yaml.ScalarNode) -> str:
    kind = node.tag.rsplit(":", 1)[-1]
    if kind == "bool":
        return "true" if node.value.lower() in ("yes", "on", "true") else "false"
    return KINDS.get(kind, kind)


def _walk(node: yaml.Node, path: str, seen: set[int]) -> Iterator[tuple[yaml.ScalarNode, str]]:
    if id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, yaml.ScalarNode):
        yield node, path
    elif isinstance(node, yaml.SequenceNode):
        for at, one in enumerate(node.value):
            yield from _walk(one, f"{path}.{at}".lstrip("."), seen)
    elif isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            name = key.value if isinstance(key, yaml.ScalarNode) else "?"
            if name not in VALUE_KEYS:  # told in their own words
                yield from _walk(value, f"{path}.{name}".lstrip("."), seen)
