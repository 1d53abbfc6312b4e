"""Which partitions of a lake somebody works on, or may come to work on: all times are by the store's clock."""

from collections.abc import Iterator
from dataclasses import dataclass

from embed_worker.lake import layout
from embed_worker.lake.heartbeats import LastWord, Seen, read_progress
from embed_worker.lake.job import EmbedJob
from embed_worker.lake.layout import ShardId
from embed_worker.lake.parallel import in_parallel
from embed_worker.lake.store import Listed, Store

LIVE_SECONDS = 15 * 60.0
"""An attempt whose heartbeat was written within this time still reads and writes."""
WAIT_SECONDS = 24 * 3600.0
"""A job that was launched, or heard of, within this time may yet get a machine: it has no heartbeat meanwhile."""


@dataclass(frozen=True)
class Note:
    """A file under `jobs/` or `progress/` and the shard it is of."""

    file: Listed
    shard: ShardId
    young: bool = False
    """Of `progress/`, and written a moment ago."""
    live: bool = False
    """A heartbeat of an attempt that is at work."""


class Leases:
    """What is held, of a lake whose `committed` shards are known."""

    def __init__(self, store: Store, now: float, committed: set[ShardId]) -> None:
        jobs = list(_job_files(store))
        self.jobs = [Note(file, job.shard) for file, job in jobs]
        self.progress: list[Note] = []
        signs = [(note.shard, note.file.written) for note in self.jobs]
        ends: dict[ShardId, float] = {}
        for file, found in read_progress(store):
            shard, young = found.shard, now - file.written < LIVE_SECONDS
            if isinstance(found, Seen):
                self.progress.append(Note(file, shard, young, young and not found.beat.over))
            else:
                self.progress.append(Note(file, shard, young))
            if isinstance(found, LastWord) or found.beat.ending == "bad_job":
                ends[shard] = max(file.written, ends.get(shard, 0.0))
            else:
                signs.append((shard, file.written))
        self.live = {note.shard for note in self.progress if note.live}
        """Attempts read and write here."""
        awaited = {
            shard
            for shard, at in signs
            if shard not in committed and now - at < WAIT_SECONDS and at > ends.get(shard, 0.0)
        }
        self.held = self.live | awaited
        self.bases = {base for _, job in jobs if job.shard in self.held for base in job.reuse}
        """Earlier shards that these may take vectors from."""
        self.near = self.held | {note.shard for note in self.progress if note.young}
        """A run works on the snapshots of these; between two of its jobs only what was heard of the last one tells."""


def _job_files(store: Store) -> Iterator[tuple[Listed, EmbedJob]]:
    """Those that can be read."""
    files = [f for f in store.listing("jobs") if f.path.count("/") == 2 and not layout.is_temporary(f.path)]

    def read(file: Listed) -> EmbedJob | None:
        try:
            return EmbedJob.model_validate(store.read_json(file.path))
        except (FileNotFoundError, ValueError):
            return None

    for file, job in zip(files, in_parallel(read, files), strict=True):
        if job is not None:
            yield file, job
