"""Ids and texts of many records at once: templates, and what sets a record aside."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from embed_worker.steps.template import Template

if TYPE_CHECKING:
    import polars as pl

REASONS = ("", "no id", "null text", "blank text", "empty text", "text too long")
"""By code; 0 is a row."""
BLANKS = "".join(chr(code) for code in range(0x3001) if chr(code).isspace())
"""What `str.strip` takes."""


def rendered(template: Template, columns: Mapping[str, "pl.Series"], size: int) -> "pl.Series":
    """The texts of a template over columns of texts; null where all its columns are."""
    import polars as pl

    used = {name: columns[name] for name in template.columns if name in columns}
    if not used:
        return pl.Series("rendered", [None] * size, pl.String)
    if template.is_one_column:
        return next(iter(used.values())).alias("rendered")
    frame = pl.DataFrame([column.alias(str(at)) for at, column in enumerate(used.values())])
    places = {name: str(at) for at, name in enumerate(used)}
    pieces: list[pl.Expr] = []
    for literal, name in template.parts:
        if literal:
            pieces.append(pl.lit(literal))
        if name in places:
            pieces.append(pl.col(places[name]).fill_null(""))
    said = pl.any_horizontal(pl.col(place).is_not_null() for place in places.values())
    return frame.select(pl.when(said).then(pl.concat_str(pieces)).alias("rendered")).to_series()


def reasons(ids: "pl.Series | None", texts: "pl.Series", most_bytes: int) -> NDArray[np.int64]:
    """Why each record gives no row, by its place in REASONS: the first that holds, as `judge.why_not` asks them."""
    found = np.zeros(len(texts), np.int64)
    null, empty = texts.is_null().to_numpy(), (texts.str.len_bytes() == 0).fill_null(False).to_numpy()
    for code, holds in (
        (5, (texts.str.len_bytes() > most_bytes).fill_null(False).to_numpy()),
        (3, _blank(texts)),
        (4, empty),
        (2, null),
    ):
        found[holds] = code
    if ids is not None:
        found[_blank(ids) | ids.is_null().to_numpy()] = 1
    return found


def _blank(texts: "pl.Series") -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = (texts.str.strip_chars_start(BLANKS).str.len_bytes() == 0).fill_null(False).to_numpy()
    return found
