"""Single values of a source: how a number was written, and what a value says as text."""

import json
import math
import re
from decimal import Decimal, InvalidOperation
from typing import Any

import orjson

NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
"""JSON's grammar: 007 is no number, it is a code."""


class Written(float):
    """A number of JSON that remembers how it was written."""

    __slots__ = ("text",)
    text: str

    def __new__(cls, text: str) -> "Written":
        found = super().__new__(cls, text)
        found.text = text
        return found

    def __str__(self) -> str:
        return self.text

    @property
    def is_exact(self) -> bool:
        """The float says all that was written."""
        if not math.isfinite(self):
            return not any(c.isdigit() for c in self.text)
        try:
            return Decimal(self.text) == Decimal(repr(float(self)))
        except InvalidOperation:
            return False


def text_of(value: Any) -> str:
    """What a value that is no text says: JSON where JSON has it, never Python's own notation."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    if isinstance(value, bool | dict | list):
        return json_text(value) or str(value)
    return str(value)


def number_text(value: float) -> str:
    """A number in a column of text: the shortest that says it, 5 for 5.0 too, whatever other numbers were beside it;
    as it was written where no float says it."""
    if isinstance(value, Written):
        return number_text(float(value)) if value.is_exact else value.text
    if isinstance(value, float) and value.is_integer() and abs(value) <= 2**53 and str(value) != "-0.0":
        return str(int(value))
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return repr(value)


def json_text(value: Any) -> str | None:
    """JSON, numbers as they were written; None for what is nested deeper than can be written."""
    try:
        return orjson.dumps(value).decode()
    except TypeError:
        pass
    try:
        return _dumps(value)
    except RecursionError:
        return None


def _dumps(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ",".join(f"{_dumps(str(name))}:{_dumps(one)}" for name, one in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(_dumps(one) for one in value) + "]"
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, bytes):
        value = value.decode("utf-8", "backslashreplace")
    text = str(value)
    return json.dumps(text, ensure_ascii=not storable(text))


def storable(text: str) -> bool:
    """Whether a text has a form in UTF-8."""
    if text.isascii():
        return True
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def why_not_storable(text: str) -> str:
    """Half a surrogate pair that was escaped, or bytes that are not of the encoding."""
    odd = [c for c in text if "\ud800" <= c <= "\udfff"]
    return "invalid UTF-8" if all("\udc00" <= c <= "\udcff" for c in odd) else "lone surrogate"


def as_number(value: Any) -> Decimal | None:
    """The number that a value is or, as a text, says; None where it is or says none."""
    if isinstance(value, bool):
        return None
    if isinstance(value, Written):
        value = value.text
    if isinstance(value, str):
        value = value.strip()
        if not NUMBER.fullmatch(value):
            return None
    elif not isinstance(value, int | float | Decimal):
        return None
    try:
        number = Decimal(repr(float(value))) if isinstance(value, float) else Decimal(value)
    except (InvalidOperation, ValueError):
        return None
    return number if number.is_finite() else None


def excerpt(data: str | bytes, length: int = 120) -> str:
    """The head of something strange, safe to print: one line, no control characters, no lone surrogates."""
    text = data[: 4 * length].decode("utf-8", "replace") if isinstance(data, bytes) else data[: 2 * length]
    text = text.encode("utf-8", "replace").decode("utf-8")
    text = "".join(c if c.isprintable() else " " if c.isspace() else "\N{REPLACEMENT CHARACTER}" for c in text)
    text = " ".join(text.split())
    return text if len(text) <= length else text[: length - 1] + "…"
