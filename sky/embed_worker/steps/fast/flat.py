"""Where keys and values stand in lines of JSON, for all lines at once.

Lines that are flat are taken apart: one object, each of its values a text, a number, a boolean, null, or an object or
array that is taken as a whole. The others stay for the record reader. What is found here holds for lines that are
JSON; whether they are is the parser's to say.
"""

import re
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from embed_worker.steps.fast.deep import CHUNK, at_the_top

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

MAX_KEYS = 200
"""Different keys of a block."""
MAX_KEY = 64
"""Bytes of a key."""
TEXT, NUMBER, BOOL, NULL, EMPTY, DEEP, ODD = range(7)
"""Kinds of values, by their first byte: an object or array is empty or deep."""
SURROGATE = re.compile(rb"\\u[dD](?:[89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F]|[89a-fA-F])")
PAIR = 9
"""Bytes of the first alternative at least."""
_KINDS = np.full(256, ODD, np.uint8)
for _first, _kind in ((b'"', TEXT), (b"-0123456789", NUMBER), (b"tf", BOOL), (b"n", NULL), (b"[{", DEEP)):
    _KINDS[list(_first)] = _kind
_MASKS = np.array([(1 << 8 * size) - 1 for size in range(9)], np.uint64)


@dataclass
class Lines:
    """The lines of a block, by their places in its bytes."""

    data: bytes
    array: NDArray[np.uint8]
    starts: Ints
    ends: Ints
    """Where the record ends: before the line end."""
    blank: Bools
    flat: Bools

    def text(self, line: int) -> bytes:
        return self.data[self.starts[line] : self.ends[line]]


@dataclass
class Values:
    """One key's values in flat lines."""

    lines: Ints
    """The lines that have the key, ascending."""
    starts: Ints
    kinds: NDArray[np.uint8]
    bounds: Ints
    """The next key, or the object's end."""
    order: Ints
    """Which of its line's keys this one is."""
    deep: dict[int, str] = field(default_factory=dict)
    """Line → what its object or array says as text."""

    def of(self, chosen: Bools) -> "Values":
        """The values at some places."""
        return Values(
            self.lines[chosen],
            self.starts[chosen],
            self.kinds[chosen],
            self.bounds[chosen],
            self.order[chosen],
            self.deep,
        )


def split(data: bytes) -> Lines:
    """The lines of a block that ends with a line end, those marked that look flat from outside."""
    array = np.frombuffer(data, np.uint8)
    ends = places(array, 10)
    starts = np.concatenate([[0], ends[:-1] + 1])
    trimmed = ends - (array[np.maximum(ends - 1, 0)] == 13)
    trimmed = np.maximum(trimmed, starts)
    flat = (array[starts] == 123) & (array[np.maximum(trimmed - 1, 0)] == 125) & (trimmed - starts > 1)
    flat &= ends < len(data) - MAX_KEY  # words of keys are read beyond their ends
    return Lines(data, array, starts, trimmed, trimmed == starts, flat)


def values_by_key(lines: Lines) -> dict[str, Values] | None:
    """The values of each key; `lines.flat` keeps those lines alone that are told here. None for too many keys."""
    array, flat = lines.array, lines.flat
    quotes = _quotes(array)
    counts = np.diff(np.append(np.searchsorted(quotes, lines.starts), len(quotes)))
    flat &= counts % 2 == 0
    for found in SURROGATE.finditer(lines.data):
        at = found.start()
        if len(found.group()) < PAIR or array[at - 1] == 92:
            flat[line_of(lines, np.array([at]))] = False
    if not flat.all():
        quotes = quotes[np.repeat(flat, counts)]
    texts = np.where(flat, counts // 2, 0)
    opens, closes = quotes[0::2], quotes[1::2]
    behind = array[closes + 1]
    is_key = behind == 58
    strange = ~(is_key | (behind == 44) | (behind == 125) | (behind == 93))
    if strange.any():
        flat[line_of(lines, opens[strange])] = False
    so_far = np.concatenate([[0], np.cumsum(is_key)])
    keys = np.diff(so_far[np.concatenate([[0], np.cumsum(texts)])])
    """Of each line."""
    opens, closes = opens[is_key], closes[is_key]
    starts = closes + 2
    starts += array[starts] == 32
    kinds = _KINDS[array[starts]]
    holders = np.flatnonzero(kinds == DEEP)
    kinds[holders[array[starts[holders] + 1] == array[starts[holders]] + 2]] = EMPTY
    of_line = np.repeat(np.arange(len(flat)), keys)
    deep = np.zeros(len(flat), bool)
    deep[of_line[kinds == DEEP]] = True
    if deep.any():
        kept = ~deep[of_line] | at_the_top(array, lines.starts, deep & flat, quotes, opens)
        opens, closes, starts, kinds, of_line = opens[kept], closes[kept], starts[kept], kinds[kept], of_line[kept]
        keys = np.bincount(of_line, minlength=len(flat))
    flat[of_line[(kinds == ODD) | (closes - opens > MAX_KEY)]] = False
    flat &= keys > 0
    last = np.cumsum(keys)[keys > 0] - 1
    bounds = np.append(opens[1:], 0)
    bounds[last] = (lines.ends - 1)[keys > 0]
    order = np.arange(len(opens)) - np.repeat(np.cumsum(keys) - keys, keys)
    if not flat.all():
        kept = flat[of_line]
        opens, closes, starts, kinds = opens[kept], closes[kept], starts[kept], kinds[kept]
        bounds, of_line, order = bounds[kept], of_line[kept], order[kept]
    named = _names(array, opens + 1, closes - opens - 1)
    if named is None:
        return None
    found_values: dict[str, Values] = {}
    for name, places in named:
        one = Values(of_line[places], starts[places], kinds[places], bounds[places], order[places])
        twice = one.lines[1:][one.lines[1:] == one.lines[:-1]]
        flat[twice] = False
        try:
            if b"\\" in name:
                raise ValueError
            found_values[name.decode()] = one
        except ValueError:  # of another spelling, or no text
            flat[one.lines] = False
    return found_values


def keep_flat(lines: Lines, values: dict[str, Values]) -> dict[str, Values]:
    """The values in lines that still count as flat; keys that none has are left out."""
    if lines.flat[lines.starts >= 0].all():
        return values
    kept = {name: one.of(lines.flat[one.lines]) for name, one in values.items()}
    return {name: one for name, one in kept.items() if len(one.lines)}


def _quotes(array: NDArray[np.uint8]) -> Ints:
    """Quotes that no backslash takes."""
    quotes = places(array, 34)
    behind = quotes[array[quotes - 1] == 92]
    if not len(behind):
        return quotes
    escaped = np.ones(len(behind), bool)
    at = behind - 2
    running = np.flatnonzero(array[at] == 92)
    while len(running):
        escaped[running] ^= True
        at[running] -= 1
        running = running[array[at[running]] == 92]
    taken = np.zeros(len(quotes), bool)
    taken[np.searchsorted(quotes, behind[escaped])] = True
    return quotes[~taken]


def places(array: NDArray[np.uint8], byte: int) -> Ints:
    """Where a byte is."""
    found = [np.flatnonzero(array[at : at + CHUNK] == byte) + at for at in range(0, len(array), CHUNK)]
    return np.concatenate(found) if found else np.zeros(0, np.int64)


def line_of(lines: Lines, at: Ints) -> Ints:
    """The lines that places are in."""
    return np.searchsorted(lines.starts, at, side="right") - 1


def _names(array: NDArray[np.uint8], starts: Ints, sizes: Ints) -> list[tuple[bytes, Ints]] | None:
    """Each different key, and its places among all keys."""
    if not len(starts):
        return []
    words_at = np.lib.stride_tricks.as_strided(array[:8].view("<u8"), (len(array) - 7,), (1,), writeable=False)
    heads = words_at[starts] & _MASKS[np.minimum(sizes, 8)]
    left = np.arange(len(starts))
    found: list[tuple[bytes, Ints]] = []
    while len(left):
        if len(found) == MAX_KEYS:
            return None
        first = left[0]
        size = int(sizes[first])
        same = (heads[left] == heads[first]) & (sizes[left] == size)
        for at in range(8, size, 8):
            mask = _MASKS[min(size - at, 8)]
            alike = np.flatnonzero(same)
            same[alike] = words_at[starts[left[alike]] + at] & mask == words_at[starts[first] + at] & mask
        found.append((array[starts[first] : starts[first] + size].tobytes(), left[same]))
        left = left[~same]
    return found
