"""Objects and arrays within the records of JSON: where they are, and what they say as text."""

import re

import numpy as np
import orjson
from numpy.typing import NDArray

CHUNK = 1 << 18
"""Bytes that are looked at together: what is made of them stays in the CPU's cache."""
AS_WRITTEN = re.compile(rb"[:\[,]\s*-?(?:[0-9]+[.eE]|[0-9]{19})|[:\[,]\s*-0|\\u0022|[ \t\r]:")
"""What the record reader may say otherwise than orjson: numbers that keep their spelling; and keys hard to count."""


def at_the_top(
    array: NDArray[np.uint8],
    starts: NDArray[np.int64],
    chosen: NDArray[np.bool_],
    quotes: NDArray[np.int64],
    keys: NDArray[np.int64],
) -> NDArray[np.bool_]:
    """Which keys are the record's own, for those in `chosen` lines. `quotes`: all that open and close texts."""
    marks = brackets(array)
    lines = np.searchsorted(starts, marks, side="right") - 1
    outside = chosen[lines] & (np.searchsorted(quotes, marks) % 2 == 0)
    marks, lines = marks[outside], lines[outside]
    if not len(marks):
        return np.zeros(len(keys), bool)
    steps = np.where(array[marks] & 6 == 2, 1, -1)
    depth = np.cumsum(steps)
    first = np.flatnonzero(np.diff(lines, prepend=-1))
    depth -= np.repeat(depth[first] - steps[first], np.diff(np.append(first, len(lines))))
    found: NDArray[np.bool_] = depth[np.searchsorted(marks, keys) - 1] == 1
    return found


def brackets(array: NDArray[np.uint8]) -> NDArray[np.int64]:
    """The places of `{}[]`."""
    pieces = [np.flatnonzero(array[at : at + CHUNK] & 0xD9 == 0x59) + at for at in range(0, len(array), CHUNK)]
    found = np.concatenate(pieces)  # and of Y, y, _ and DEL
    bits = array[found] & 7
    marks: NDArray[np.int64] = found[(bits == 3) | (bits == 5)]
    return marks


def said(text: bytes) -> str | None:
    """An object or array as the record reader has it in a column of texts; None where only that reader can say."""
    if AS_WRITTEN.search(text):
        return None
    try:
        found = orjson.dumps(orjson.loads(text))
    except orjson.JSONDecodeError:
        return None
    return found.decode() if found.count(b'":') == text.count(b'":') else None
