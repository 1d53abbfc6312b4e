"""One JSON text → a record. orjson where it gives what is written, else Python's parser with the numbers kept."""

import json
import re
from collections.abc import Collection
from typing import Any

import orjson

from embed_worker.steps.readers.base import Fault, Record
from embed_worker.steps.values import Written, excerpt, storable

KEY = re.compile(rb'"[ \t\r\n]*:')
LONG_NUMBER = re.compile(rb"[:\[,]\s*-?(?:[0-9.eE+-]{16,}|[0-9.]+[eE][+]?[0-9]{3})")
"""A number that a float may not hold as it is written."""
SHORT_NUMBER = re.compile(rb"\s*-?[0-9.]{1,16}\s*[,}]")
"""Fifteen digits and a dot."""
MAX_DIGITS = 4000
"""Python's limit for integers is a little higher."""


class _TwinKeys(ValueError):
    pass


def parse(text: bytes, needed: Collection[str], numbers: str = "exact") -> Record:
    """A record, or why the text gives none. `needed`: columns whose numbers must stand as they are written."""
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        return _exactly(text, error, numbers)
    if not isinstance(value, dict):
        return Fault("not a JSON object", excerpt=excerpt(text))
    if (
        _written_keys(text) != _keys(value)
        or numbers == "text"
        or any(isinstance(value.get(name), float | dict | list) for name in needed)
        or not _floats_are_exact(text, value)
    ):
        return _exactly(text, None, numbers)
    return value


def _floats_are_exact(text: bytes, value: dict[str, Any]) -> bool:
    """Each float was written with so few digits that it says all of them; where that is not seen at once, False."""
    for name, one in value.items():
        if type(one) is float:
            at = text.find(b'"%s":' % name.encode())
            if at < 0 or SHORT_NUMBER.match(text, at + len(name.encode()) + 3) is None:
                return False
        elif one and isinstance(one, dict | list):
            return LONG_NUMBER.search(text) is None
    return True


def _written_keys(text: bytes) -> int:
    """Keys as they are written, so that one that is there twice counts twice; at least that many."""
    if b" :" in text or b"\t:" in text or b"\n:" in text or b"\r:" in text:
        return len(KEY.findall(text))
    return text.count(b'":')


def _keys(value: Any) -> int:
    if isinstance(value, dict):
        return len(value) + sum(_keys(one) for one in value.values() if isinstance(one, dict | list))
    return sum(_keys(one) for one in value if isinstance(one, dict | list))


def _exactly(text: bytes, error: orjson.JSONDecodeError | None, numbers: str = "exact") -> Record:
    """NaN and Infinity are numbers, each number is as it was written, no key is there twice."""
    integer = Written if numbers == "text" else _integer
    try:
        decoded = text.decode("utf-8", "surrogateescape")
        value = json.loads(
            decoded, parse_int=integer, parse_float=Written, parse_constant=Written, object_pairs_hook=_pairs
        )
    except _TwinKeys as twin:
        return Fault("key twice", str(twin), excerpt(text))
    except RecursionError:
        return Fault("malformed JSON", "nested too deep", excerpt(text))
    except ValueError as fault:
        if not storable(decoded):
            return Fault("invalid UTF-8", excerpt=excerpt(text))
        return Fault("malformed JSON", _why(decoded, str(error or fault)), excerpt(text))
    if not isinstance(value, dict):
        return Fault("not a JSON object", excerpt=excerpt(text))
    if any(not storable(name) for name in value):
        return Fault("lone surrogate", "in a key", excerpt(text))
    return value


def _integer(text: str) -> int | Written:
    return Written(text) if len(text) > MAX_DIGITS or text == "-0" else int(text)


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise _TwinKeys(f"{excerpt(twice, 40)!r} is there twice")
    return found


def _why(text: str, said: str) -> str:
    if re.match(r"\s*\{\s*'", text):
        return "single quotes: Python's notation, write it with json.dumps"
    if re.match(r"\s*\{\s*\w+\s*:", text):
        return "keys without quotes"
    return " ".join(said.split())[:100]
