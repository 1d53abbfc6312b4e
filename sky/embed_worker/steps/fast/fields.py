"""Where the fields of CSV and TSV stand, for all records of a block at once."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from embed_worker.steps.fast.flat import Bools, Ints, places
from embed_worker.steps.readers.fields import Marks


@dataclass
class Fields:
    """The records of a block that ends with a line end, and their fields."""

    lines: int
    """Of the file."""
    starts: Ints
    ends: Ints
    """Of each record, without its line end."""
    line: Ints
    """Each record's first line, from 0."""
    spans: Ints
    """Lines of each record."""
    blank: Bools
    counts: Ints
    """Fields of each record."""
    first: Ints
    """Each record's first field."""
    pieces: pa.StringArray
    """Each field, and what follows it: quotes, delimiter, line end."""
    doubled: Bools
    """Of each field: it has quotes in it, which are written twice."""
    quote: str

    def column(self, records: Ints, at: int) -> pa.StringArray:
        """One field of each of some records, which have it."""
        fields = self.first[records] + at
        return self._said(fields)

    def record(self, at: int) -> list[str]:
        """All fields of a record."""
        fields = np.arange(self.first[at], self.first[at] + self.counts[at])
        found: list[str] = self._said(fields).to_pylist()
        return found

    def _said(self, fields: Ints) -> pa.StringArray:
        texts, doubled = self.pieces.take(pa.array(fields * 2)), self.doubled[fields]
        if not doubled.any():
            return texts
        single = pc.replace_substring(texts.filter(pa.array(doubled)), self.quote * 2, self.quote)
        return pc.replace_with_mask(texts, pa.array(doubled), single)


def fields_of(data: bytes, marks: Marks) -> Fields | None:
    """None where a quote stands that neither encloses a whole field nor is one of two within such a field, or bytes
    that are no UTF-8. `marks`: of one byte each."""
    array = np.frombuffer(data, np.uint8)
    if not _is_text(data):
        return None
    delimiters, ends = places(array, ord(marks.delimiter)), places(array, 10)
    lines = ends
    quotes = places(array, ord(marks.quote)) if marks.quote and marks.quote.encode() in data else np.zeros(0, np.int64)
    twice = np.zeros(0, np.int64)
    if len(quotes):
        found = _enclosing(array, quotes, ord(marks.delimiter))
        if found is None:
            return None
        opens, closes, twice = found
        delimiters, ends = _outside(delimiters, opens, closes), _outside(ends, opens, closes)
    stops = np.concatenate([delimiters, ends])
    stops.sort(kind="stable")
    counts = np.diff(np.searchsorted(delimiters, ends), prepend=0) + 1
    record_starts = np.concatenate([[0], ends[:-1] + 1])
    record_ends = np.maximum(ends - (array[np.maximum(ends - 1, 0)] == 13), record_starts)
    field_starts, field_ends = np.concatenate([[0], stops[:-1] + 1]), stops.copy()
    last = np.cumsum(counts)
    field_ends[last - 1] = record_ends
    if len(quotes):
        quoted = array[field_starts] == ord(str(marks.quote))
        field_starts[quoted] += 1
        field_ends[quoted] -= 1
    doubled = np.zeros(len(stops), bool)
    doubled[np.searchsorted(stops, twice)] = True
    line = np.searchsorted(lines, record_starts) if len(ends) < len(lines) else np.arange(len(ends))
    return Fields(
        lines=len(lines),
        starts=record_starts,
        ends=record_ends,
        line=line,
        spans=np.diff(line, append=len(lines)),
        blank=record_ends == record_starts,
        counts=counts,
        first=last - counts,
        pieces=_pieces(data, field_starts, field_ends),
        doubled=doubled,
        quote=str(marks.quote),
    )


def _is_text(data: bytes) -> bool:
    offsets = pa.py_buffer(np.array([0, len(data)], "<i4").tobytes())
    try:
        pa.Array.from_buffers(pa.string(), 1, [None, offsets, pa.py_buffer(data)]).validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def _enclosing(array: np.ndarray, quotes: Ints, delimiter: int) -> tuple[Ints, Ints, Ints] | None:
    """Quotes that open and that close a field, and the first of each two that stand for one; None for any other."""
    if len(quotes) % 2:
        return None
    opens, closes = quotes[0::2], quotes[1::2]
    behind, further = array[closes + 1], array[np.minimum(closes + 2, len(array) - 1)]
    closing = (behind == delimiter) | (behind == 10) | ((behind == 13) & (further == 10))
    twice = np.append(opens[1:] == closes[:-1] + 1, False)
    if not (closing | twice).all():
        return None
    before = array[np.maximum(opens - 1, 0)]
    opening = (before == delimiter) | (before == 10) | (opens == 0)
    second = np.concatenate([[False], twice[:-1]])
    if not (opening | second).all():
        return None
    return opens[~second], closes[~twice], closes[twice]


def _outside(places: Ints, opens: Ints, closes: Ints) -> Ints:
    """The places that are in no quotes."""
    begin, end = np.searchsorted(places, opens), np.searchsorted(places, closes)
    some = begin < end
    if not some.any():
        return places
    depth = np.zeros(len(places) + 1, np.int8)
    depth[begin[some]] += 1
    depth[end[some]] -= 1
    found: Ints = places[np.cumsum(depth[:-1], dtype=np.int8) == 0]
    return found


def _pieces(data: bytes, starts: Ints, ends: Ints) -> pa.StringArray:
    offsets = np.empty(2 * len(starts) + 1, "<i4")
    offsets[0:-1:2], offsets[1::2], offsets[-1] = starts, ends, len(data)
    return pa.Array.from_buffers(pa.string(), len(offsets) - 1, [None, pa.py_buffer(offsets), pa.py_buffer(data)])
