"""One range of a source → its parts in the lake, each committed once; those that are there are found."""

import base64
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow.parquet as pq

from embed_worker.lake import failpoints, files, layout
from embed_worker.lake.errors import BadManifest
from embed_worker.lake.manifests import read_manifest, write_manifest
from embed_worker.lake.snapshots import PartRecord
from embed_worker.lake.spec import digest_of
from embed_worker.lake.store import Store
from embed_worker.steps import parse as parsing
from embed_worker.steps.fast.block import BLOCK_BYTES
from embed_worker.steps.making import Parsed
from embed_worker.steps.parse import WHOLE, Window, parse
from embed_worker.steps.ranges import Range, bytes_of
from embed_worker.steps.source import SourceFile
from embed_worker.steps.spec import SourceSpec
from embed_worker.steps.writers import schema_of, write_part

ID_LENGTH = 24


@dataclass(frozen=True)
class Task:
    """A range to be read."""

    file: SourceFile
    span: Range
    content: str
    """Of the whole file; empty where the range's own bytes tell."""
    bytes: int
    window: Window = WHOLE
    give_up: bool = False
    """It is the source's first: a source of which nothing can be used is not read to its end."""


@dataclass(frozen=True)
class Made:
    """The parts of a range."""

    records: list[PartRecord]
    created: bool


class Parts:
    """The parts of one dataset in one lake."""

    def __init__(self, store: Store, spec: SourceSpec) -> None:
        self._store, self._spec = store, spec
        self._folder = layout.raw_folder(spec.name, spec.ingest_id)
        self.told: Callable[[int, int], None] = lambda _bytes, _rows: None
        """Called with the stored bytes and the rows of a range as its parts are made, all but the last."""

    def record(self, part_id: str) -> PartRecord | None:
        """None too where it is damaged: then it is removed, and the part made anew."""
        path = f"{self._folder}/{layout.part_record(part_id)}"
        try:
            return read_manifest(self._store, path, PartRecord)
        except BadManifest:
            self._store.delete(path)
            return None

    def make(self, task: Task) -> Made:
        """Finds the parts of a range, or makes those that are missing. Raises SourceError."""
        data, content = b"", task.content
        if task.span.kind == "lines":
            lines = bytes_of(task.file, task.span)
            data, content = lines.data, lines.digest
        range_id = self._range_id(task, content)
        there = self._there(range_id, task.window)
        if there is not None:
            return Made(there, created=False)
        records: list[PartRecord] = []
        kept = 0
        passed = Counter[str]()
        file = task.file
        if task.span.kind == "whole":  # the one kind that has more than a few parts
            file = replace(file, on_read=lambda size: passed.update(bytes=size))
        with self._store.scratch() as scratch:
            begun = time.monotonic()
            for parsed in parse(self._spec, file, task.span, data, task.window, give_up=task.give_up):
                left = task.window.take - kept if task.window.take is not None and parsed.cut else None
                part_id = _part_id(range_id, len(records), task.window.skip, left)
                record = self.record(part_id) or self._commit(part_id, len(records), parsed, scratch, begun)
                records.append(record)
                kept += record.kept
                if not record.last:
                    self.told(passed["bytes"], sum(record.rows for record in records))
                begun = time.monotonic()
        return Made(records, created=True)

    def _range_id(self, task: Task, content: str) -> str:
        how = None if task.span.kind == "lines" else task.file.compression
        place = [task.span.start, task.span.end] if task.span.kind == "groups" else None
        bounds = [parsing.PART_BYTES, parsing.PART_REJECTS, BLOCK_BYTES]
        value = [self._spec.ingest_id, task.file.format, how, content, task.span.kind, place, bounds]
        return digest_of(value, ID_LENGTH)

    def _there(self, range_id: str, window: Window) -> list[PartRecord] | None:
        """The parts of a range, where the lake has all."""
        found: list[PartRecord] = []
        kept = 0
        while True:
            left = None if window.take is None else window.take - kept
            record = self.record(_part_id(range_id, len(found), window.skip, None))
            if left is not None and (record is None or record.kept >= left):
                record = self.record(_part_id(range_id, len(found), window.skip, left))
                return None if record is None else [*found, record]
            if record is None:
                return None
            found.append(record)
            if record.last:
                return found
            kept += record.kept

    def _commit(self, part_id: str, index: int, parsed: Parsed, scratch: Path, begun: float) -> PartRecord:
        has_ids = self._spec.id is not None
        schema = schema_of(parsed.types, has_ids=has_ids)
        local = scratch / "rows.parquet"
        write_part(local, parsed.tables, schema)
        failpoints.reach("raw.parsed")
        file = files.publish(self._store, self._folder, local, layout.part_file(part_id), parsed.rows)
        local.unlink(missing_ok=True)
        rejects = None
        if parsed.rejects.num_rows:
            local = scratch / "rejects.parquet"
            pq.write_table(parsed.rejects, local, compression="zstd")
            rejects = files.publish(
                self._store, self._folder, local, layout.part_rejects(part_id), parsed.rejects.num_rows
            )
            local.unlink(missing_ok=True)
        failpoints.reach("raw.data")
        record = PartRecord(
            part_id=part_id,
            index=index,
            last=parsed.last,
            file=file,
            rejects=rejects,
            read=parsed.read,
            rows=parsed.rows,
            rejects_by_reason=parsed.rejects_by_reason,
            first_rejects=parsed.first_rejects,
            filtered=parsed.filtered,
            outside=parsed.outside,
            account=parsed.account,
            columns=parsed.columns,
            wide=[name for name, kind in parsed.types.items() if kind.wide],
            arrow_schema=base64.b64encode(schema.serialize()).decode(),
            where=parsed.where,
            seen=parsed.seen,
            never_seen=parsed.never_seen,
            text_bytes=parsed.text_bytes,
            rows_digest=parsed.digest,
            seconds=round(time.monotonic() - begun, 3),
        )
        if parsed.last and not parsed.cut and not parsed.account.whole:  # given up: the run is about to stop
            return record
        path = f"{self._folder}/{layout.part_record(part_id)}"
        write_manifest(self._store, path, record)
        failpoints.reach("raw.part")
        return read_manifest(self._store, path, PartRecord) or record


def _part_id(range_id: str, index: int, skip: int, left: int | None) -> str:
    """`left`: records that were taken of it before the row range's end cut it off."""
    return digest_of([range_id, index, skip, left], ID_LENGTH)
