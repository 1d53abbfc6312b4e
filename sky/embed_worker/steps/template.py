"""Text templates over columns: `{title}\\n{text}`. Column names only; nothing is evaluated."""

from collections.abc import Mapping
from string import Formatter
from typing import Any

import orjson


class Template:
    """A parsed template. `{{` and `}}` stand for braces."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._parts: list[tuple[str, str | None]] = []
        try:
            for literal, name, spec, conversion in Formatter().parse(text):
                if name is not None and (not name or spec or conversion or "[" in name or "]" in name):
                    raise ValueError("only {column} is allowed: no formats, no positions, no parts of a value")
                self._parts.append((literal, name))
        except ValueError as error:
            raise ValueError(f"template {text!r}: {error}") from error
        self.columns = list(dict.fromkeys(name for _, name in self._parts if name is not None))
        if not self.columns:
            raise ValueError(f"template {text!r} names no column, such as {{text}}")

    def render(self, row: Mapping[str, Any]) -> str | None:
        """The text of a row; None where every column of the template is null or absent."""
        if all(row.get(name) is None for name in self.columns):
            return None
        out = []
        for literal, name in self._parts:
            out.append(literal)
            if name is not None and (value := row.get(name)) is not None:
                out.append(value if isinstance(value, str) else _text_of(value))
        return "".join(out)


def _text_of(value: Any) -> str:
    """What a value that is no text says: JSON where JSON has it, never Python's own notation."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    if isinstance(value, bool | dict | list):
        try:
            return orjson.dumps(value, default=str).decode()
        except TypeError:  # nested beyond what JSON text can be made of
            return str(value)
    return str(value)
