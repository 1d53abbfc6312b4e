"""Values as they are written in a block of JSON."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from embed_worker.steps.fast.flat import DEEP, Bools, Ints, Values
from embed_worker.steps.values import NUMBER

_BLANK = np.zeros(256, bool)
_BLANK[[32, 9, 13]] = True
_NUMBER = np.zeros(256, bool)
_NUMBER[list(b"0123456789.-")] = True
SAFE_INT, SAFE_FLOAT = 19, 16
"""Characters: of integers below 9·10^18, of fifteen digits with a dot."""


def ends_of(array: NDArray[np.uint8], values: Values) -> Ints:
    """Where values end: before the comma and the blanks that follow."""
    ends = _without_blanks(array, values.bounds.copy())
    ends -= array[ends - 1] == 44
    return _without_blanks(array, ends)


def _without_blanks(array: NDArray[np.uint8], ends: Ints) -> Ints:
    left = np.flatnonzero(_BLANK[array[ends - 1]])
    while len(left):
        ends[left] -= 1
        left = left[_BLANK[array[ends[left] - 1]]]
    return ends


def written(array: NDArray[np.uint8], values: Values) -> pa.StringArray:
    """The bytes of each value."""
    starts, sizes = values.starts, ends_of(array, values) - values.starts
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    places = np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], sizes)
    data = pa.py_buffer(array[places].tobytes())
    return pa.StringArray.from_buffers(len(starts), pa.py_buffer(offsets.astype("<i4").tobytes()), data)


def said(array: NDArray[np.uint8], values: Values) -> pa.StringArray:
    """The same; of objects and arrays what they say as text."""
    deep = values.kinds == DEEP
    if not deep.any():
        return written(array, values)
    texts = np.empty(len(deep), object)
    texts[deep] = [values.deep[line] for line in values.lines[deep].tolist()]
    texts[~deep] = written(array, values.of(~deep)).to_pylist()
    return pa.array(texts, pa.string())


def plain_numbers(array: NDArray[np.uint8], values: Values, as_text: bool) -> Bools:
    """Numbers that say the same however they are read: no exponent, no minus zero, no more digits than an integer
    or a float holds; `as_text`: and Python writes them so, too."""
    texts = written(array, values)
    offsets = np.frombuffer(texts.buffers()[1], "<i4")
    data = np.frombuffer(texts.buffers()[2] or b"", np.uint8)
    sizes, starts = np.diff(offsets), offsets[:-1]
    if not len(sizes):
        return np.zeros(0, bool)
    dots, strange = _sums(data == 46, offsets), _sums(~_NUMBER[data], offsets)
    first = data[starts]
    is_int = (dots == 0) & ((sizes < SAFE_INT) | ((sizes == SAFE_INT) & (first != 45) & (first < 57)))
    minus_zero = (first == 45) & (data[np.minimum(starts + 1, len(data) - 1)] == 48) & (sizes == 2)
    is_float = (strange == 0) & (dots == 1)
    long = np.flatnonzero(is_float & (sizes > SAFE_FLOAT))
    is_float[long] = _are_shortest(texts.take(pa.array(long)))
    plain: Bools = ((strange == 0) & is_int & ~minus_zero) | is_float
    if as_text:
        floats = np.flatnonzero(plain & (dots == 1))
        coded = texts.take(pa.array(floats)).dictionary_encode()
        said = coded.dictionary.to_pylist()
        same = np.array([bool(NUMBER.fullmatch(text)) and repr(float(text)) == text for text in said], bool)
        plain[floats] = same[coded.indices.to_numpy()]
    return plain


def _are_shortest(texts: pa.StringArray) -> Bools:
    """Floats written with the fewest digits that tell them from their neighbours: those say all that is written."""
    try:
        found: Bools = pc.equal(texts.cast(pa.float64()).cast(pa.string()), texts).to_numpy(zero_copy_only=False)
    except pa.ArrowInvalid:  # one is no number
        return np.zeros(len(texts), bool)
    return found


def _sums(marked: Bools, offsets: NDArray[np.int32]) -> Ints:
    so_far = np.concatenate([[0], np.cumsum(marked)])
    return np.diff(so_far[offsets])
