"""What a block of a source gives: its rows, what was set aside, and the counts that add up over blocks."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from embed_worker.lake.identity import array_keys
from embed_worker.steps.columns import LINE, RECORD
from embed_worker.steps.filter import RowFilter
from embed_worker.steps.readers.base import Account
from embed_worker.steps.spec import SourceSpec
from embed_worker.steps.template import Template
from embed_worker.steps.types import ColumnType, conform, merged, type_of

if TYPE_CHECKING:
    import polars as pl

BLOCK_BYTES = 8 << 20
"""A good size: what is made of more does not stay in the CPU's cache."""


class Plan:
    """What is asked of each record of a source."""

    def __init__(self, spec: SourceSpec) -> None:
        self.spec = spec
        self.text = Template(spec.text)
        self.id = Template(spec.id) if spec.id else None
        templates = [self.text, *([self.id] if self.id else [])]
        self.needed = list(dict.fromkeys([*(name for t in templates for name in t.columns), *spec.where]))
        """Columns of templates and of the filter."""
        self.as_is = {t.columns[0] for t in templates if t.is_one_column} & {"text", "id"}
        """Columns that are stored as `text` or `id` themselves."""

    def keeps(self, name: str) -> bool:
        """A column goes to raw_reviews under a name of its own."""
        return name not in self.as_is and self.spec.kept(name) is not None


@dataclass(frozen=True)
class Reject:
    """A record that was set aside. Places are the block's own."""

    record: int
    line: int
    """From 1."""
    id: str | None
    """None for a record that has none, and where ids are positions in the source."""
    reason: str
    detail: str
    excerpt: str
    readable: bool
    """It is a record: it has an id where ids are positions."""


@dataclass
class Block:
    """Rows in the order of the source, and the account of the bytes they came from."""

    own: pa.Table
    """`id` where the spec has a template for it, `text`, `text_key`, `_record`: the position in the block, before the
    filter, and `_line`, from 1."""
    columns: pa.Table
    """The other columns, as `ExtraColumns` names and types them."""
    rejects: list[Reject]
    records: int
    """All of the block, faults too."""
    filtered: int
    """Of these, those that `where` leaves out."""
    by_record: int
    """Of these, those that were read one by one."""
    where: RowFilter
    account: Account
    text_bytes: int
    values: dict[str, int]
    nulled: dict[str, int]
    """By column, as `ExtraColumns` counts them."""
    named: list[str]
    """The source's columns that rows have."""
    shows: list[dict[str, Any]]
    """Of JSON: records that have each key of the block between them."""


def joined_columns(blocks: Sequence[Block]) -> pa.Table:
    """The other columns of blocks in their order, each in the type that holds all its values."""
    tables = [one.columns if one.columns.num_columns else _bare(one.own.num_rows) for one in blocks]
    types: dict[str, ColumnType] = {}
    for table in tables:
        merged(types, {name: type_of(table.column(name)) for name in table.column_names if name})
    schema = pa.schema([(name, kind.type) for name, kind in types.items()])
    return pa.concat_tables([conform(table, schema) for table in tables])


def _bare(rows: int) -> pa.Table:
    """Without any of the lake's columns; a table without any at all forgets its rows."""
    return pa.table({"": pa.nulls(rows)})


def own_table(ids: "pl.Series | None", texts: "pl.Series", records: Any, lines: Any) -> tuple[pa.Table, int]:
    """The columns of our own, and the size of the texts."""
    columns = {} if ids is None else {"id": as_strings(ids)}
    columns["text"] = as_strings(texts)
    columns["text_key"] = array_keys(columns["text"])
    columns[RECORD], columns[LINE] = pa.array(records, pa.int64()), pa.array(lines, pa.int64())
    return pa.table(columns), int(texts.str.len_bytes().sum() or 0)


def as_strings(series: "pl.Series") -> pa.Array:
    """Texts as the lake's readers take them."""
    array = series.to_arrow()
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    return array.cast(pa.string())
