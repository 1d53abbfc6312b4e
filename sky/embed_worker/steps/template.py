"""Text templates over columns: `{title}\\n{text}`. Column names only; nothing is evaluated."""

import math
import re
from collections.abc import Mapping
from typing import Any

from embed_worker.steps.values import text_of

PLAIN = re.compile(r"[^{}\[\]!:\"]+")
"""Names that need no quotes."""
LINE_BREAKS = {"\\n": "\n", "\\r": "\r", "\\t": "\t"}


class Template:
    """A parsed template: `{column}`, or `{"column"}` for a name with `: ! [ ] { }` in it, its quotes doubled.

    `{{` and `}}` stand for braces, `\\n` and `\\t` for a line break and a tab, in single quotes of YAML too.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.parts: list[tuple[str, str | None]] = []
        """Literals, each with the column behind it; None behind the last."""
        try:
            self._parse(text)
        except ValueError as error:
            raise ValueError(f"template {text!r}: {error}") from None
        self.columns = list(dict.fromkeys(name for _, name in self.parts if name is not None))
        if not self.columns:
            raise ValueError(f"template {text!r} names no column, such as {{text}}")

    def _parse(self, text: str) -> None:
        at, literal = 0, ""
        while at < len(text):
            two = text[at : at + 2]
            if two in ("{{", "}}"):
                literal, at = literal + two[0], at + 2
            elif two in LINE_BREAKS:
                literal, at = literal + LINE_BREAKS[two], at + 2
            elif two == "\\\\" and text[at + 1 : at + 3] in LINE_BREAKS:
                literal, at = literal + text[at + 1 : at + 3], at + 3
            elif text[at] == "{":
                name, at = _column(text, at + 1)
                self.parts.append((literal, name))
                literal = ""
            elif text[at] == "}":
                raise ValueError("a } without its {; write }} for the character")
            else:
                literal, at = literal + text[at], at + 1
        if literal:
            self.parts.append((literal, None))

    @property
    def is_one_column(self) -> bool:
        """The template is a column and nothing else."""
        return len(self.parts) == 1 and not self.parts[0][0]

    def render(self, row: Mapping[str, Any]) -> str | None:
        """The text of a row; None where every column of the template is null, not a number, or absent."""
        values = {name: row.get(name) for name in self.columns}
        values = {n: None if isinstance(v, float) and math.isnan(v) else v for n, v in values.items()}
        if all(value is None for value in values.values()):
            return None
        out = []
        for literal, name in self.parts:
            out.append(literal)
            if name is not None and (value := values[name]) is not None:
                out.append(value if isinstance(value, str) else text_of(value))
        return "".join(out)


def _column(text: str, at: int) -> tuple[str, int]:
    """The name that begins behind a brace, and where the text goes on."""
    if text.startswith('"', at):
        quoted = re.compile(r'"((?:[^"]|"")*)"\}').match(text, at)
        if quoted is None:
            raise ValueError('a quoted column ends with "}')
        return quoted[1].replace('""', '"'), quoted.end()
    end = text.find("}", at)
    name = text[at : end if end >= 0 else len(text)]
    if end < 0:
        raise ValueError("a { without its }; write {{ for the character")
    if not PLAIN.fullmatch(name):
        quoted_name = name.replace('"', '""')
        cure = f'; a column of that name is written {{"{quoted_name}"}}' if name else ""
        raise ValueError(f"only {{column}} is allowed: no formats, no positions, no parts of a value{cure}")
    return name, end + 1
