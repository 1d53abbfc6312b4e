"""A sample of a dataset's texts: of its snapshot where it is ingested, else of the head of its source."""

import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from embed_assets.estimate.figures import Figure, How
from embed_assets.spec import DatasetSpec
from embed_worker.lake.snapshots import RawManifest, RawPart
from embed_worker.lake.store import Store
from embed_worker.steps.filter import RowFilter
from embed_worker.steps.records import BUFFER, columns_of, read_records
from embed_worker.steps.rows import rows_of_file
from embed_worker.steps.source import SourceFile, find_files
from embed_worker.steps.template import Template

GROUPS = 32
"""Row groups of a snapshot that a sample is drawn from: an object store is asked for these only."""
HEAD_BYTES = 16 << 20
"""How far into a source that is not ingested is read."""
SEED = 20260101


@dataclass(frozen=True)
class Sample:
    """Some texts, each with the cluster it was drawn with; clusters are what is independent."""

    texts: list[str]
    clusters: list[int]
    rows: Figure
    """Rows of the whole dataset."""
    origin: str
    random: bool
    """False for the head of a source: how the rest differs from it cannot be known."""
    whole: bool
    """The sample is all there is."""


@dataclass(frozen=True, order=True)
class _Group:
    """A row group of a snapshot."""

    part: str
    number: int
    rows: int


def _groups(store: Store, raw: RawManifest, part: RawPart) -> Iterator[_Group]:
    """Those of a part that have rows in the snapshot."""
    with store.open(f"{raw.folder}/{part.file.path}") as source:
        about = pq.ParquetFile(source).metadata
    first = 0
    for number in range(about.num_row_groups):
        rows = about.row_group(number).num_rows
        low, high = np.searchsorted(part.dropped_rows, (first, first + rows))
        first += rows
        if rows > high - low:
            yield _Group(part.part_id, number, rows - int(high - low))


def sample_snapshot(store: Store, raw: RawManifest, size: int) -> Sample:
    """Texts of random row groups of a snapshot, the same in every call.

    The rows are drawn before any is read: beside one group's column, no more texts are held than are asked for.
    """
    draw = random.Random(SEED)  # noqa: S311
    groups = [group for part in raw.parts for group in _groups(store, raw, part)]
    chosen = sorted(draw.sample(groups, min(GROUPS, len(groups))))
    there = sum(group.rows for group in chosen)
    drawn = np.sort(draw.sample(range(there), min(size, there)))
    texts: list[str] = []
    clusters: list[int] = []
    parts = {part.part_id: part for part in raw.parts}
    first = 0
    for at, of_part in itertools.groupby(chosen, key=lambda group: group.part):
        with store.open(f"{raw.folder}/{parts[at].file.path}") as source:
            parquet = pq.ParquetFile(source)
            for group in of_part:
                low, high = np.searchsorted(drawn, (first, first + group.rows))
                batches = rows_of_file(parquet, parts[at], ["text"], [group.number])
                column = pa.Table.from_batches(batches).column("text")
                texts += column.take(drawn[low:high] - first).to_pylist()
                clusters += [first] * int(high - low)
                first += group.rows
    seen = len(chosen) == len(groups)
    origin = f"{len(texts):,} of the snapshot's {raw.rows:,} rows, from {len(chosen)} of {len(groups)} row groups"
    if seen:
        clusters = list(range(len(texts)))
    whole = seen and len(texts) == raw.rows
    return Sample(texts, clusters, Figure.exact(raw.rows, How.MEASURED), origin, random=True, whole=whole)


def sample_source(dataset: DatasetSpec, size: int, rows: int | None) -> Sample:
    """Texts of the head of a source, and the rows of the whole as the head tells them unless `rows` states them.

    Raises SourceError where the source cannot be read.
    """
    files = find_files(dataset)
    head = _Head(dataset)
    records = list(head.read(files))
    texts = [text for text in records if text is not None]
    counted = head.rows(files, len(texts))
    if rows is not None:
        counted = Figure.exact(rows, How.STATED)
    chosen = texts
    if len(texts) > size:
        draw = random.Random(SEED)  # noqa: S311
        chosen = [texts[at] for at in sorted(draw.sample(range(len(texts)), size))]
    origin = f"{len(chosen):,} of the first {len(texts):,} rows of the source"
    if head.ended:
        origin = f"{len(chosen):,} of the source's {len(texts):,} rows"
    clusters = list(range(len(chosen)))
    return Sample(chosen, clusters, counted, origin, random=head.ended, whole=head.ended and chosen is texts)


class _Head:
    """Reads a source until its end or HEAD_BYTES of its first file."""

    def __init__(self, dataset: DatasetSpec) -> None:
        self._dataset = dataset
        self.ended = False
        self._records = 0
        self._position = self._size = 0

    def read(self, files: list[SourceFile]) -> Iterator[str | None]:
        """The text of each record that the spec keeps; None where it would be set aside."""
        spec, where, template = self._dataset, RowFilter(self._dataset.where), Template(self._dataset.text)
        kept = 0
        for file in files:
            store = _Watched(file.fs)
            watched = replace(file, fs=store)  # type: ignore[arg-type]
            for record in read_records(watched, [*template.columns, *spec.where]):
                self._records += 1
                if self._records % 256 == 0 and store.position() > HEAD_BYTES:
                    self._position, self._size = store.position(), int(file.fs.info(file.path).get("size") or 0)
                    return
                if not isinstance(record, dict):
                    yield None
                    continue
                if not where(record):
                    continue
                kept += 1
                if kept <= spec.rows.start:
                    continue
                if spec.rows.end is not None and kept > spec.rows.end:
                    self.ended = True
                    return
                text = template.render(record)
                yield text if text is not None and text.strip() else None
        self.ended = True

    def rows(self, files: list[SourceFile], usable: int) -> Figure:
        """Rows of all files, as this head tells; the reader's buffer is what the head's length is unsure by."""
        if self.ended:
            return Figure.exact(usable, How.MEASURED)
        per_record = usable / max(self._records, 1)
        if self._dataset.rows.end is not None and not self._dataset.where:
            return Figure.exact((self._dataset.rows.end - self._dataset.rows.start) * per_record, How.SAMPLED)
        if files[0].format == "parquet" and columns_of(files[0]) is not None:
            return Figure.exact(_parquet_rows(files) * per_record, How.SAMPLED)
        total = sum(int(file.fs.info(file.path).get("size") or 0) for file in files)
        if not total or not self._position:
            return Figure(usable, usable, 1e3 * usable, How.ASSUMED)
        high = usable * total / max(self._position - BUFFER, 1)
        low = usable * total / self._position
        return Figure(low, (low + high) / 2, high, How.SAMPLED)


def _parquet_rows(files: list[SourceFile]) -> int:
    total = 0
    for file in files:
        with file.open() as source:
            total += pq.ParquetFile(source).metadata.num_rows
    return total


class _Watched:
    """A file system that knows how far its last opened file has been read."""

    def __init__(self, fs: Any) -> None:
        self._fs = fs
        self._file: Any = None

    def open(self, path: str, mode: str = "rb", **options: Any) -> Any:
        self._file = self._fs.open(path, mode, **options)
        return self._file

    def position(self) -> int:
        """Stored bytes; 0 where the file does not tell."""
        try:
            return int(self._file.tell())
        except (AttributeError, OSError, ValueError):
            return 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._fs, name)
