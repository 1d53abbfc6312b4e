"""The part files: checkpoints become a few big files, each as soon as its checkpoints are there."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from embed_worker.attempt.checkpoints import CheckpointRecord, Checkpoints
from embed_worker.lake import failpoints, files, layout
from embed_worker.lake.files import FileRef
from embed_worker.lake.job import EmbedJob
from embed_worker.lake.store import Store
from embed_worker.lake.table import parquet_writer, shard_schema

PART_BYTES = 512 << 20
ROW_GROUP_BYTES = 64 << 20


class Parts:
    """Writes the parts in order. They are cut by the records alone, so every attempt cuts alike.

    Used by one thread at a time. A part is written while the engine is at the next one's checkpoints: at the end
    only the last is left to do.
    """

    def __init__(self, store: Store, job: EmbedJob, checkpoints: Checkpoints, scratch: Path) -> None:
        self._store, self._job, self._checkpoints, self._scratch = store, job, checkpoints, scratch
        self.records: list[CheckpointRecord] = []
        self.written: list[FileRef] = []
        self._group: list[CheckpointRecord] = []
        self._size = 0

    @property
    def dimension(self) -> int | None:
        """None where not one row could be embedded."""
        return next((r.dimension for r in self.records if r.dimension is not None), None)

    def advance(self, committed: set[int]) -> None:
        """Takes up the next checkpoints in order, as far as they are committed; writes the parts they complete."""
        while len(self.records) in committed:
            self._take(self._checkpoints.record(len(self.records)))

    def finish(self) -> list[FileRef]:
        """All parts, when every checkpoint is committed. Raises DamagedData where one is not readable."""
        while len(self.records) < self._checkpoints.count:
            self._take(self._checkpoints.record(len(self.records)))
        if any(record.data for record in self._group):
            self._write()
        self._group = []
        return self.written

    def _take(self, record: CheckpointRecord) -> None:
        added = record.data.bytes if record.data else 0
        if self._size and self._size + added > PART_BYTES:
            self._write()
            self._group, self._size = [], 0
        self.records.append(record)
        self._group.append(record)
        self._size += added

    def _write(self) -> None:
        dimension = next(r.dimension for r in self._group if r.dimension is not None)
        schema = shard_schema(self._job, dimension)
        name = layout.part_name(len(self.written))
        local = self._scratch / name
        with parquet_writer(local, schema) as writer:
            pending: list[pa.Table] = []
            for record in self._group:
                source = self._checkpoints.data(record, self._scratch)
                if source is None:
                    continue
                pending.append(pq.read_table(source).replace_schema_metadata(schema.metadata).cast(schema))
                if not self._store.is_local:
                    source.unlink()
                if sum(table.nbytes for table in pending) >= ROW_GROUP_BYTES:
                    writer.write_table(pa.concat_tables(pending))
                    pending = []
            if pending:
                writer.write_table(pa.concat_tables(pending))
        rows = sum(record.windows for record in self._group)
        failpoints.reach("part.written")
        self.written.append(files.publish(self._store, self._job.shard.folder, local, name, rows))
        failpoints.reach("part.published")
        local.unlink(missing_ok=True)
