"""The texts of flat lines, unescaped by Polars, which also says whether the lines are JSON."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import orjson

from embed_worker.steps.fast import slices
from embed_worker.steps.fast.block import Plan
from embed_worker.steps.fast.flat import NULL, TEXT, Ints, Lines, Values, keep_flat

if TYPE_CHECKING:
    import polars as pl


@dataclass
class Parsed:
    """Flat lines that are JSON, by columns."""

    lines: Lines
    values: dict[str, Values]
    frame: "pl.DataFrame"
    """Columns with texts; what is no text in them means nothing."""
    flat_lines: Ints
    place_of: Ints
    """Line → its place among the flat ones."""

    def texts(self, name: str) -> "pl.Series":
        """A column's values as a template takes them: texts, and what is none as it is written."""
        import polars as pl

        values = self.values[name]
        strange = values.of((values.kinds != TEXT) & (values.kinds != NULL))
        if name in self.frame.columns:
            column = self.frame[name]
        else:
            column = pl.Series(name, [None], pl.String).new_from_index(0, len(self.flat_lines))
        if not len(strange.lines):
            return column
        said = pl.Series(slices.said(self.lines.array, strange))
        if len(said) == len(self.flat_lines):
            return said.alias(name)
        return column.scatter(self.place_of[strange.lines], said)


def parsed(lines: Lines, values: dict[str, Values], plan: Plan) -> Parsed | None:
    """None where Polars takes lines for JSON that are none, or the other way round."""
    wanted = [name for name, one in values.items() if name in plan.needed or plan.keeps(name)]
    wanted = [name for name in wanted if (values[name].kinds == TEXT).any()]
    frame = _frame(lines, values, wanted)
    if frame is None:
        _sort_out(lines)
        values = keep_flat(lines, values)
        wanted = [name for name in wanted if name in values]
        frame = _frame(lines, values, wanted)
        if frame is None:
            return None
    flat_lines = np.flatnonzero(lines.flat)
    place_of = np.full(len(lines.flat), -1)
    place_of[flat_lines] = np.arange(len(flat_lines))
    return Parsed(lines, values, frame, flat_lines, place_of)


def _frame(lines: Lines, values: dict[str, Values], wanted: list[str]) -> "pl.DataFrame | None":
    import polars as pl

    count = int(lines.flat.sum())
    if not count:
        return pl.DataFrame(schema=dict.fromkeys(wanted, pl.String))
    names = wanted or list(values)[:1]
    try:
        found = pl.read_ndjson(_bytes_of(lines), schema=dict.fromkeys(names, pl.String))
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException):
        return None
    return found if found.height == count else None


def _bytes_of(lines: Lines) -> bytes:
    """The flat lines."""
    if (lines.flat | lines.blank).all():
        return lines.data
    edges = np.flatnonzero(np.diff(np.concatenate([[0], lines.flat, [0]]).astype(np.int8)))
    starts = np.append(lines.starts, len(lines.data))
    return b"".join(lines.data[starts[a] : starts[b]] for a, b in zip(edges[::2], edges[1::2], strict=True))


def _sort_out(lines: Lines) -> None:
    """Lines that are no JSON are not flat."""
    for line in np.flatnonzero(lines.flat).tolist():
        try:
            orjson.loads(lines.text(line))
        except orjson.JSONDecodeError:
            lines.flat[line] = False
