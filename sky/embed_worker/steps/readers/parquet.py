"""Parquet: the columns that templates name as Python's values, the others as Arrow's, whatever is in them."""

import datetime as dt
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from embed_worker.steps.errors import SourceError
from embed_worker.steps.readers.base import BUFFER, Account, Fault, Row
from embed_worker.steps.readers.header import lacks, unique

BATCH_ROWS, BATCH_BYTES = 16_384, 16 << 20
INT96 = "us"
"""Spark's old timestamps reach beyond what nanoseconds do, where they would wrap around."""


@contextmanager
def opened(stream: IO[bytes], seekable: bool) -> Iterator[pq.ParquetFile]:
    """Parquet is read from its end: a compressed one is unpacked to the scratch disk first."""
    with stream:
        if seekable:
            yield pq.ParquetFile(stream, coerce_int96_timestamp_unit=INT96)
            return
        with tempfile.TemporaryFile() as unpacked:
            shutil.copyfileobj(stream, unpacked, BUFFER)
            unpacked.seek(0)
            yield pq.ParquetFile(unpacked, coerce_int96_timestamp_unit=INT96)


def read(
    parquet: pq.ParquetFile,
    url: str,
    needed: Collection[str],
    account: Account,
    each: Callable[[Iterator[pa.Table]], Iterator[pa.Table]] = iter,
) -> Iterator[Row]:
    """All rows. `each` is given the tables that they are in, as they are read."""
    about = parquet.metadata
    names = names_of(parquet, url, needed)
    account.unit, account.total = "rows", about.num_rows
    line = 0
    for table in each(tables(parquet, names, range(about.num_row_groups))):
        yield from rows_of(table, needed, line)
        line += table.num_rows
    account.accounted, account.records, account.whole = line, line, True


def names_of(parquet: pq.ParquetFile, url: str, needed: Collection[str]) -> list[str]:
    """Each column's name, of its own. Raises SourceError where a needed one is missing."""
    found: list[str] = parquet.schema_arrow.names
    names = unique(found) if len(set(found)) != len(found) else found
    if missing := [name for name in needed if name not in names]:
        twice = f". {missing[0]!r} is there twice: write {{{missing[0]}_1}}" if missing[0] in found else ""
        raise SourceError(f"{url} {lacks(missing[0], names)}{twice}")
    return names


def tables(parquet: pq.ParquetFile, names: list[str], groups: Sequence[int]) -> Iterator[pa.Table]:
    """The rows of some row groups, about BATCH_BYTES at a time."""
    about = [parquet.metadata.row_group(at) for at in groups]
    size, count = sum(group.total_byte_size for group in about), sum(group.num_rows for group in about)
    rows = max(1, min(BATCH_ROWS, BATCH_BYTES * max(count, 1) // max(size, 1)))
    for batch in parquet.iter_batches(batch_size=rows, row_groups=list(groups)):
        table = pa.Table.from_arrays(batch.columns, names=names) if names else pa.Table.from_batches([batch])
        table = without_views(table)
        step = max(1, BATCH_BYTES * table.num_rows // max(table.nbytes, 1))  # stored, values that repeat are small
        for at in range(0, table.num_rows, step):
            yield table if step >= table.num_rows else table.slice(at, step).combine_chunks()


def rows_of(table: pa.Table, needed: Collection[str], first: int = 0) -> Iterator[Row]:
    """Row by row. `first`: the rows before."""
    wanted = [name for name in table.column_names if name in set(needed)]
    values = {name: values_of(table.column(name).combine_chunks()) for name in wanted}
    for at in range(table.num_rows):
        record = {name: column[at] for name, column in values.items()}
        unreadable = next((name for name, value in record.items() if value is UNREADABLE), None)
        if unreadable is None:
            yield Row(record, first + at + 1, table, at)
        else:
            yield Row(Fault("unreadable value", f"in {unreadable!r}"), first + at + 1, table, at)


def without_views(table: pa.Table) -> pa.Table:
    """Arrow takes no rows out of views of texts and bytes."""
    plain = {pa.string_view(): pa.string(), pa.binary_view(): pa.binary()}
    for at, field in enumerate(table.schema):
        if field.type in plain:
            table = table.set_column(at, field.name, table.column(at).cast(plain[field.type]))
    return table


UNREADABLE = object()
"""Stands for a value that Python has no form for."""


def values_of(column: pa.Array) -> list[Any]:
    """Python's values of a column; bytes that are no UTF-8 become halves of surrogate pairs."""
    kind = column.type
    if pa.types.is_float32(kind) or pa.types.is_float16(kind):  # the number that was meant: 4.3, not 4.300000190734863
        return [None if value is None else float(str(value)) for value in _singles(column)]
    if pa.types.is_timestamp(kind) and kind.unit == "ns":
        return _nanoseconds(column)
    try:
        found: list[Any] = column.to_pylist()
        return found
    except Exception:  # of pyarrow, its time zones and Python's dates; one by one then
        if isinstance(column, pa.ExtensionArray):
            return values_of(column.storage)
        if pa.types.is_dictionary(column.type):
            return values_of(column.dictionary_decode())
        return [_value(column[at : at + 1]) for at in range(len(column))]


def _singles(column: pa.Array) -> list[Any]:
    kind = column.type.to_pandas_dtype()
    return [None if value is None else kind(value) for value in column.to_pylist()]


def _nanoseconds(column: pa.Array) -> list[Any]:
    """Python's times end at microseconds: a finer one is its text."""
    whole = values_of(column.cast(pa.timestamp("us", column.type.tz), safe=False))
    ticks = column.cast(pa.int64()).to_pylist()
    epoch = dt.datetime(1970, 1, 1, tzinfo=dt.UTC if column.type.tz else None)
    return [
        value if tick is None or tick % 1000 == 0
        else f"{epoch + dt.timedelta(microseconds=tick // 1000):%Y-%m-%d %H:%M:%S.%f}{tick % 1000:03d}"
        + ("+00:00" if column.type.tz else "")
        for value, tick in zip(whole, ticks, strict=True)
    ]  # fmt: skip


def _value(one: pa.Array) -> Any:
    kind = one.type
    steps: list[pa.DataType | None] = [None]
    if pa.types.is_timestamp(kind):
        steps += [pa.timestamp("us", kind.tz), pa.timestamp("us", "UTC" if kind.tz else None)]
    elif pa.types.is_time64(kind):
        steps.append(pa.time64("us"))
    elif pa.types.is_duration(kind):
        steps.append(pa.duration("us"))
    elif pa.types.is_string(kind) or pa.types.is_large_string(kind) or kind == pa.string_view():
        raw = one.cast(pa.binary()).to_pylist()[0]
        return raw.decode("utf-8", "surrogateescape")
    for step in steps:
        try:
            return (one if step is None else one.cast(step, safe=False)).to_pylist()[0]
        except Exception:  # noqa: S112
            continue
    return UNREADABLE
