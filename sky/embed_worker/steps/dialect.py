"""The keys that say how a source's files are written, where that cannot be known from the files."""

import codecs
import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Count = Annotated[int, Field(strict=True)]
"""A number that is one in YAML too: `yes` is not 1."""
ColumnType = Literal["any", "string", "int", "float", "bool", "skip"]
DEFAULT_WINDOW = 128 << 20
"""What `zstd` itself unpacks without being told to."""
NONE = "none"
C_STYLE = "c-style"
ROWS_KEYS = (
    "delimiter", "quote", "escape", "header", "encoding", "null_values", "skip_blank_after_delimiter", "json_numbers",
    "columns",
)  # fmt: skip
"""Those that decide the rows; the others decide which files are read, or whether the run stops."""


class StrictModel(BaseModel):
    """Frozen, and closed: an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


ONLY_FOR = {
    "delimiter": ("csv", "tsv"), "quote": ("csv", "tsv"), "escape": ("csv", "tsv"), "header": ("csv", "tsv"),
    "null_values": ("csv", "tsv"), "skip_blank_after_delimiter": ("csv", "tsv"), "json_numbers": ("jsonl",),
    "encoding": ("csv", "tsv", "jsonl"),
}  # fmt: skip
"""Formats that a key means something to."""


class Dialect(StrictModel):
    """How the files of a source are to be read."""

    delimiter: str | None = None
    """What separates the fields of CSV and TSV, one to eight characters, such as ";" or "\\t" or "::"."""
    quote: str | None = None
    """The character around fields of CSV and TSV, or `none`. Without it `"`; for tabs, what the file shows."""
    escape: str | None = None
    """The character that takes a quote, delimiter, line end or itself as it is, such as "\\\\"; `c-style` also reads
    \\n, \\t, \\N as PostgreSQL and MySQL write them."""
    header: Literal["none"] | Count = 1
    """Line of the column names, from 1; `none` where there is none: then `columns` names them all, in order."""
    encoding: str | None = None
    """Of text files, such as cp1252 or utf-16. Without it, what a byte order mark says, else UTF-8."""
    null_values: list[str] = Field(default_factory=list)
    """Fields of CSV and TSV that stand for no value, such as ["NA", "\\\\N"]."""
    skip_blank_after_delimiter: bool = Field(default=False, strict=True)
    """Blanks between a delimiter and the field or its quote belong to neither."""
    decompression_window: Count = Field(default=DEFAULT_WINDOW, ge=1 << 10, le=1 << 31)
    """Bytes of memory that unpacking zstd may take; 2147483648 for files packed with --long=31."""
    json_numbers: Literal["exact", "float", "text"] = "exact"
    """Numbers of JSON in the other columns. `exact`: one that neither an int64 nor a float holds makes its column text;
    `float`: it is rounded; `text`: all stand as they are written. In `text` and `id` they always do."""
    include_hidden: bool = Field(default=False, strict=True)
    """Read files too that a pattern finds in hidden folders or under hidden names."""
    columns: list[str] | dict[str, ColumnType] = Field(default_factory=list)
    """The other columns to keep, or a mapping of each to its type; without it, all. With `header: none`, the names of
    the file's columns in order; the type `skip` leaves one out."""
    max_rejects: float = Field(default=0.01, ge=0, le=1)
    """Share of the records that may be set aside; more, and nothing is ingested."""

    @field_validator("delimiter")
    @classmethod
    def _delimiter(cls, value: str | None) -> str | None:
        if value is not None and (not 1 <= len(value) <= 8 or re.search(r'[\r\n"\x00]', value)):
            raise ValueError(f"{value!r} is no delimiter: one to eight characters, no quote, no line end")
        return value

    @field_validator("quote")
    @classmethod
    def _quote(cls, value: str | None) -> str | None:
        if value is not None and value != NONE and (len(value) != 1 or value in "\r\n\x00"):
            raise ValueError(f"{value!r} is no quote: one character, or `none`")
        return value

    @field_validator("escape")
    @classmethod
    def _escape(cls, value: str | None) -> str | None:
        if value not in (None, NONE, C_STYLE) and (len(str(value)) != 1 or str(value) in "\r\n\x00"):
            raise ValueError(f"{value!r} is no escape: one character, `c-style`, or `none`")
        return value

    @field_validator("header")
    @classmethod
    def _header(cls, value: Any) -> Any:
        if isinstance(value, int) and value < 1:
            raise ValueError("lines are counted from 1; write `none` where there is no header")
        return value

    @field_validator("encoding")
    @classmethod
    def _encoding(cls, value: str | None) -> str | None:
        if value is None:
            return None
        try:
            known = codecs.lookup(value)
            "".encode(known.name)
        except (LookupError, ValueError) as error:
            raise ValueError(f"{value!r} is no encoding of text, such as cp1252, latin-1 or utf-16") from error
        return known.name

    @model_validator(mode="after")
    def _fits(self) -> "Dialect":
        marks = [mark for mark in (self.delimiter, self.quote, self.escape) if mark not in (None, NONE)]
        if len(marks) != len(set(marks)):
            raise ValueError(f"{marks[0]!r} cannot be two of delimiter, quote and escape at once")
        if self.header == NONE and not self.columns:
            raise ValueError("`header: none` needs `columns`: the names of the file's columns, in order")
        if len(set(self.column_names)) != len(self.column_names):
            raise ValueError("`columns` names a column twice")
        return self

    def idle_key(self, formats: set[str]) -> str | None:
        """A key that is set and means nothing to any of these formats."""
        defaults = type(self).model_fields
        for key, meant in ONLY_FOR.items():
            if not formats & set(meant) and getattr(self, key) != defaults[key].get_default(call_default_factory=True):
                return key
        return None

    @property
    def column_names(self) -> list[str]:
        return list(self.columns)

    def kept(self, name: str) -> ColumnType | None:
        """The type that a column of the source is kept with; None where it is left out."""
        if not self.columns:
            return "any"
        if isinstance(self.columns, list):
            return "any" if name in self.columns else None
        kind = self.columns.get(name)
        return None if kind == "skip" else kind
