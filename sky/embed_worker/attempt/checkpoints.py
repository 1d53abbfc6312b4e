"""Checkpoints: fixed row ranges of a partition, each committed once, whoever does it first."""

import re
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
from pydantic import BaseModel, ConfigDict

from embed_worker.errors import BadJob
from embed_worker.lake import failpoints, files
from embed_worker.lake.attempts import Attempt, in_order, readable
from embed_worker.lake.errors import BadManifest, DamagedData
from embed_worker.lake.files import FileRef
from embed_worker.lake.job import EmbedJob
from embed_worker.lake.layout import RETIRED
from embed_worker.lake.manifests import Reused, ShardManifest, read_manifest, write_manifest
from embed_worker.lake.store import Store
from embed_worker.lake.table import write_table

ORPHAN = re.compile(r"(part-\d+|rejects)(\.[0-9a-f]+)?\.parquet|\..*\.tmp")
"""Files of a shard's folder that dead attempts may have left."""


class Reject(BaseModel):
    """A row that gets no vector, and why."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    text_key: str
    """In hex."""
    reason: str


class CheckpointRecord(BaseModel):
    """Commit of one checkpoint. `data` is None where every row of it was rejected."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    index: int
    rows: int
    input_digest: str
    spec_id: str
    attempt: str
    data: FileRef | None
    dimension: int | None
    windows: int
    tokens: int
    duplicate_windows: int
    reused: list[Reused]
    rejects: list[Reject]
    engine_seconds: float
    """Engine time since the attempt's previous checkpoint, so that sums over attempts are right."""

    @property
    def rows_embedded(self) -> int:
        return self.rows - sum(one.rows for one in self.reused) - len(self.rejects)


class Checkpoints:
    """The checkpoints of one job in the lake."""

    def __init__(self, store: Store, job: EmbedJob) -> None:
        self._store = store
        self._job = job
        self.shard = job.shard
        self.root = f"{job.shard.folder}/checkpoints"
        self.folder = f"{self.root}/rows-{job.checkpoint_rows:07d}"
        self._repairs: set[str] = set()
        self.count = -(-job.input.rows // job.checkpoint_rows)

    def span(self, index: int) -> range:
        """Places of the stride's rows in their order."""
        size = self._job.checkpoint_rows
        return range(index * size, min((index + 1) * size, self._job.input.rows))

    def register(self, attempt: Attempt) -> None:
        """Leaves word that an attempt began, for the manifest's list of attempts."""
        self._repairs = self._retired()
        self._store.create_json(f"{self.root}/attempts/{attempt.attempt}.json", attempt.note())

    def check_repairs(self) -> None:
        """Raises DamagedData where the partition was committed and repaired since this attempt began.

        The sweep of that commit may have taken parts that this attempt has written long ago.
        """
        if self._retired() != self._repairs:
            raise DamagedData(
                f"{self._store.url(self._job.shard.folder)} was repaired meanwhile; its parts are made anew"
            )

    def attempts(self) -> list[Attempt]:
        """Attempts as they registered. A note that is damaged or swept is left out: it commits nothing."""
        folder = f"{self.root}/attempts"
        found = []
        for name in self._store.list(folder):
            if name.endswith(".json"):
                with suppress(ValueError, FileNotFoundError):
                    found.append(self._store.read_json(f"{folder}/{name}"))
        return in_order(readable(found))

    def writers(self) -> set[str]:
        """Attempts that have left at least one checkpoint's data."""
        return {n.split(".")[1] for n in self._store.list(self.folder) if n.endswith(".parquet")}

    def committed(self) -> set[int]:
        names = self._store.list(self.folder)
        return {int(n.removesuffix(".json")) for n in names if n.endswith(".json")}

    def is_committed(self, index: int) -> bool:
        return self._store.exists(self._record(index))

    def commit(self, record: CheckpointRecord, table: pa.Table | None, scratch: Path) -> bool:
        """Data first under a name of its own, then the record, create-only. False: another attempt was first."""
        data_path = None
        if table is not None:
            name = f"checkpoints/{self.folder.rsplit('/', 1)[-1]}/{record.index:06d}.{record.attempt}.parquet"
            local = scratch / f"{record.index:06d}.parquet"
            write_table(local, table)
            data = files.describe(local, name, table.num_rows)
            data_path = f"{self._job.shard.folder}/{name}"
            failpoints.reach("checkpoint.written")
            self._store.create_file(data_path, local)
            local.unlink()
            record = record.model_copy(update={"data": data})
            failpoints.reach("checkpoint.data")
        if write_manifest(self._store, self._record(record.index), record):
            failpoints.reach("checkpoint.record")
            return True
        if self.record(record.index).attempt == record.attempt:
            return True  # a put was sent twice because its first answer got lost: the record is ours
        failpoints.reach("checkpoint.lost")
        if data_path is not None:
            self._store.delete(data_path)
        return False

    def record(self, index: int) -> CheckpointRecord:
        """The record of a committed checkpoint. Raises where it belongs to another input or spec.

        One that cannot be read (another version of the worker wrote it) is retired, so a retry makes it anew.
        """
        path = self._record(index)
        try:
            record = read_manifest(self._store, path, CheckpointRecord)
        except BadManifest as error:
            self.retire(index)
            raise DamagedData(str(error)) from error
        if record is None:
            raise DamagedData(f"{self._store.url(path)} is gone")
        if (record.input_digest, record.spec_id) != (self._job.input.digest, self._job.shard.spec_id):
            raise BadJob(
                f"{self._store.url(path)} was made from another input or spec; "
                f"remove the folder {self._store.url(self.root)} to start the partition anew"
            )
        return record

    def data(self, record: CheckpointRecord, scratch: Path) -> Path | None:
        """The checkpoint's file, proved by its digest. Damage retires the record, so a retry makes it anew."""
        if record.data is None:
            return None
        try:
            return files.fetch(self._store, self._job.shard.folder, record.data, scratch)
        except DamagedData:
            self.retire(record.index)
            raise

    def sweep(self) -> None:
        """Removes all checkpoints, and parts that the manifest does not list. Only after it is there.

        The manifest is read after the list: one that was known before may have been retired since, and what lies
        here may be its successor's.
        """
        failpoints.reach("sweep.begun")
        names = self._store.list(self._job.shard.folder)
        manifest = read_manifest(self._store, self._job.shard.manifest_path, ShardManifest)
        if manifest is None:
            return
        self._store.delete(self.root)
        failpoints.reach("sweep.checkpoints")
        listed = {file.path for file in manifest.listed}
        for name in names:
            if name not in listed and ORPHAN.fullmatch(name):
                self._store.delete(f"{self._job.shard.folder}/{name}")

    def retire(self, index: int) -> None:
        """Takes a checkpoint's commit back, so that it is made anew; not where the partition is committed."""
        if not self._store.exists(self._job.shard.manifest_path):
            self._store.delete(self._record(index))

    def _retired(self) -> set[str]:
        return {name for name in self._store.list(self._job.shard.folder) if name.startswith(RETIRED)}

    def _record(self, index: int) -> str:
        return f"{self.folder}/{index:06d}.json"
