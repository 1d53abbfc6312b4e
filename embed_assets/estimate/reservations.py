"""Dollars put aside before a launch, so that runs side by side keep to one budget: a create-only file a job.

A run first puts its reservations, then looks at all there are, and withdraws its own that are too much. Of runs that do
so at once, the one that looks last sees what every other has put: no two of them take the same dollars.
"""

import math
import re
import time
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from embed_worker.lake import layout
from embed_worker.lake.clock import now_by_writing
from embed_worker.lake.job import EmbedJob
from embed_worker.lake.parallel import in_parallel
from embed_worker.lake.spec import digest_of
from embed_worker.lake.store import Listed, Store, to_json

LEFT_SECONDS = 24 * 3600.0
"""A reservation that so long after its last writing is of no launched job was left by a run that died before it."""
NAME = re.compile(
    rf"(?P<partition>{layout.DATASET_NAME})\.(?P<job>[0-9a-f]{{10}})\.(?P<id>[0-9a-f]{{12}})\.(?P<micro>[0-9]{{1,15}})\.json"
)


@dataclass(frozen=True)
class Reservation:
    """Of one launch of one job. All that counts stands in its file's name, so a listing is enough."""

    pipeline: str
    partition: str
    job: str
    """Digest of the job's name."""
    id: str
    usd: float

    @classmethod
    def of(cls, job: EmbedJob, usd: float) -> "Reservation":
        """Rounded up to a millionth of a dollar."""
        dollars = math.ceil(usd * 1e6) / 1e6
        return cls(job.pipeline, job.shard.key, _digest(job), uuid.uuid4().hex[:12], dollars)

    @classmethod
    def at(cls, path: str) -> "Reservation | None":
        folder, _, name = path.rpartition("/")
        if (match := NAME.fullmatch(name)) is None:
            return None
        pipeline, usd = folder.rpartition("/")[2], int(match["micro"]) / 1e6
        return cls(pipeline, match["partition"], match["job"], match["id"], usd)

    @property
    def path(self) -> str:
        name = f"{self.partition}.{self.job}.{self.id}.{round(self.usd * 1e6)}.json"
        return f"{layout.reservations_folder(self.pipeline)}/{name}"

    def is_of(self, job: EmbedJob) -> bool:
        return (self.partition, self.job) == (job.shard.key, _digest(job))

    def data(self, *, launched: bool) -> bytes:
        return to_json({"partition": self.partition, "usd": self.usd, "launched": launched})


def _digest(job: EmbedJob) -> str:
    return digest_of(job.name, length=10)


class Reservations:
    """Those of one pipeline."""

    def __init__(self, store: Store, pipeline: str) -> None:
        self._store, self._folder = store, layout.reservations_folder(pipeline)
        self._launched = set[str]()

    def put(self, reservations: Sequence[Reservation]) -> None:
        in_parallel(lambda one: self._store.create(one.path, one.data(launched=False)), reservations)

    def mark_launched(self, reservations: Sequence[Reservation]) -> None:
        """From now on they stay, whatever becomes of this run: their jobs cost."""
        in_parallel(lambda one: self._store.replace(one.path, one.data(launched=True)), reservations)

    def renew(self, reservations: Sequence[Reservation]) -> None:
        """Says that somebody still means to launch their jobs."""
        in_parallel(lambda one: self._store.replace(one.path, one.data(launched=False)), reservations)

    def withdraw(self, reservations: Iterable[Reservation]) -> None:
        in_parallel(lambda one: self._store.delete(one.path), list(reservations))

    def outstanding(self) -> list[Reservation]:
        """Without those that dead runs left, which are withdrawn."""
        files = self._store.listing(self._folder)
        found = [(file, one) for file in files if (one := Reservation.at(file.path)) is not None]
        old = self._old(found)
        left = {one.id for (_, one), gone in zip(old, in_parallel(self._is_left, old), strict=True) if gone}
        self.withdraw(one for _, one in old if one.id in left)
        return [one for _, one in found if one.id not in left]

    def _old(self, found: list[tuple[Listed, Reservation]]) -> list[tuple[Listed, Reservation]]:
        def older(now: float) -> list[tuple[Listed, Reservation]]:
            return [(file, one) for file, one in unknown if now - file.written > LEFT_SECONDS]

        unknown = [(file, one) for file, one in found if one.id not in self._launched]
        return older(now_by_writing(self._store)) if older(time.time()) else []

    def _is_left(self, listed: tuple[Listed, Reservation]) -> bool:
        file, one = listed
        try:
            left = bool(self._store.read(file.path) == one.data(launched=False))
        except FileNotFoundError:
            return True
        if not left:
            self._launched.add(one.id)
        return left
