"""What lies under `progress/`: who works on a partition, how far each attempt is, and who has given it up.

These files are overwritten every few seconds and prove nothing; a reader passes over one that is damaged, foreign or
not where it says it belongs. When a file was written is the store's word: the clock of a node may be wrong.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import orjson
from pydantic import Field, ValidationError

from embed_worker.lake import layout
from embed_worker.lake.attempts import Attempt, Hardware
from embed_worker.lake.job import EmbedJob
from embed_worker.lake.layout import FORMAT, ShardId
from embed_worker.lake.lenient import Count, Lenient, Moment, Number, Text
from embed_worker.lake.parallel import in_parallel
from embed_worker.lake.store import Listed, Store

FOLDER = "progress"
GIVEN_UP = "_given-up-"
"""First part of the name of the driver's word; attempts are named by hex digits."""
MAX_BYTES = 64 * 1024


class Heartbeat(Attempt):
    """What an attempt says of itself, every few seconds and at its end. Durations are in seconds, by its own clock."""

    format: int = FORMAT
    shard: ShardId
    at: Moment | None = None
    """By the node's clock: for people, not for reckoning."""
    pipeline: Text | None = None
    rows: Count = 0
    rows_done: Count = 0
    """In checkpoints, whoever made them."""
    tokens_done: Count = 0
    rows_own: Count = 0
    """Those that this attempt made itself."""
    tokens_own: Count = 0
    checkpoint_rows: Count | None = None
    every_seconds: Number | None = None
    phase: Text = "unknown"
    seconds: Number = 0.0
    phase_seconds: Number | None = None
    hardware: Hardware | None = None
    engine: dict[str, str] = Field(default_factory=dict)
    ending: Text | None = None
    """Of a stopped attempt: `preempted`, `failed`, or `bad_job` where no attempt can succeed."""
    error: Text | None = None

    @property
    def machine(self) -> str | None:
        """None before the worker has looked."""
        return self.hardware.machine if self.hardware else None

    @property
    def over(self) -> bool:
        return self.phase in ("committed", "stopped")

    @property
    def path(self) -> str:
        return layout.heartbeat_file(self.shard.key, self.attempt)


class GivenUp(Lenient):
    """The driver's word that its run makes no further attempt at a shard."""

    shard: ShardId
    at: Moment | None = None
    error: Text | None = None


@dataclass
class Seen:
    """A heartbeat with the time of its writing, by the store's clock."""

    beat: Heartbeat
    written: float

    @property
    def shard(self) -> ShardId:
        return self.beat.shard

    def age(self, now: float) -> float:
        return max(0.0, now - self.written)

    @property
    def begun(self) -> float:
        return self.written - self.beat.seconds


@dataclass
class LastWord:
    """A shard's `GivenUp` with the time of its writing, by the store's clock."""

    word: GivenUp
    written: float

    @property
    def shard(self) -> ShardId:
        return self.word.shard


def given_up_file(job: EmbedJob) -> str:
    return f"{FOLDER}/{job.shard.key}/{GIVEN_UP}{job.fingerprint}.json"


def is_progress_file(file: Listed) -> bool:
    """Whether a listed file can be a heartbeat, or a driver's word."""
    return file.path.count("/") == 2 and not layout.is_temporary(file.path) and file.bytes <= MAX_BYTES


def parse(path: str, data: bytes) -> Heartbeat | GivenUp | None:
    """None where a file is neither, or does not lie where it says it belongs."""
    model = GivenUp if path.rpartition("/")[2].startswith(GIVEN_UP) else Heartbeat
    try:
        found = model.model_validate(orjson.loads(data))
    except (orjson.JSONDecodeError, ValidationError):
        return None
    if isinstance(found, Heartbeat):
        return found if path == found.path else None
    return found if path.startswith(f"{FOLDER}/{found.shard.key}/") else None


def read_progress(store: Store) -> Iterator[tuple[Listed, Seen | LastWord]]:
    """Whatever can be read of it, with its file; what cannot is passed over, the next beat replaces it."""
    files = [file for file in store.listing(FOLDER) if is_progress_file(file)]

    def read(file: Listed) -> Heartbeat | GivenUp | None:
        try:
            return parse(file.path, store.read(file.path))
        except FileNotFoundError:
            return None

    for file, found in zip(files, in_parallel(read, files), strict=True):
        if isinstance(found, Heartbeat):
            yield file, Seen(found, file.written)
        elif found is not None:
            yield file, LastWord(found, file.written)
