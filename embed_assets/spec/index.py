"""The `index:` block of a pipeline: what the table holds beside the vectors, and how it is searched."""

from typing import Literal

from pydantic import Field, field_validator

from embed_worker.steps.dialect import Count, StrictModel

ColumnType = Literal["string", "int64", "float64", "bool", "timestamp"]
OWN = frozenset(
    {"id", "text_key", "chunk", "char_start", "char_end", "passage", "vector", "stride", "digest", "score", "text"}
)
"""Columns that each table has by itself, or that a query gives."""


class IndexSpec(StrictModel):
    """The table that is searched."""

    type: Literal["auto", "none", "IVF_PQ", "IVF_RQ", "IVF_HNSW_SQ"] = "auto"
    """`auto`: by rows, dimension and memory, as `embed-assets plan` says. `none`: every vector is looked at."""
    columns: dict[str, ColumnType] = Field(default_factory=dict)
    """Columns of the source that a search can filter by, with their types: `{rating: int64, movie: string}`."""
    full_text: bool = False
    """Also index the words of the passages, for `embed-assets search --hybrid`."""
    min_recall: float = Field(default=0.95, ge=0, le=1)
    """Of the ten nearest vectors, the share that a search must find; a table below it is not published."""
    nprobes: Count | None = Field(default=None, ge=1)
    """Partitions of the index that a search looks into; without it LanceDB's default."""
    refine_factor: Count = Field(default=4, ge=1)
    """A search looks at this many times as many stored vectors as it wants."""

    @field_validator("columns")
    @classmethod
    def _free(cls, value: dict[str, ColumnType]) -> dict[str, ColumnType]:
        for name in value:
            if name.lower() in OWN or name.startswith("_"):
                raise ValueError(f"{name!r} is a column that each table has by itself; leave it out")
            if not name or "." in name or not name.isprintable():
                raise ValueError(
                    f"{name!r} cannot be a column of the table: a name has no dot and no control character"
                )
        return value
