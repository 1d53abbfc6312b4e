"""Committed shards on their way to a verdict: read in a few threads while the driver goes on polling."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from embed_assets.checks.proof import Prove
from embed_assets.drive.adoption import Adoption, Found
from embed_assets.drive.outages import Outages
from embed_worker.lake.errors import BadManifest, StoreUnavailable
from embed_worker.lake.job import EmbedJob
from embed_worker.lake.manifests import ShardManifest
from embed_worker.lake.parallel import in_parallel
from resources.compute import JobStatus
from resources.lake import Lake

T = TypeVar("T")

THREADS = 4
"""Each holds one file of a shard on the scratch disk."""


@dataclass(frozen=True)
class Seen:
    """A shard with a manifest. Without its manifest and a status here, it was there before this run."""

    job: EmbedJob
    manifest: ShardManifest | None = None
    status: JobStatus | None = None
    attempts: int = 0
    elapsed: float = 0.0

    @property
    def before(self) -> bool:
        return self.manifest is None and self.status is None


class Proving:
    """True while a shard waits for its verdict."""

    def __init__(self, lake: Lake, prove: Prove, outages: Outages, pool: Executor | None = None) -> None:
        self._lake, self._prove, self._outages = lake, prove, outages
        self._adoption = Adoption(lake, prove)
        self._pool = pool or ThreadPoolExecutor(THREADS, thread_name_prefix="prover")
        self._waiting = deque[Seen]()
        self._going: dict[Future[Found], Seen] = {}

    def __len__(self) -> int:
        return len(self._waiting) + len(self._going)

    def has_manifest(self, job: EmbedJob) -> bool:
        return self._adoption.has_manifest(job)

    def look(
        self, subjects: Sequence[T], job_of: Callable[[T], EmbedJob]
    ) -> Iterator[tuple[T, ShardManifest | BadManifest | None]]:
        """Whether each subject's job is committed; without those of which the lake does not say."""
        if self._outages.not_yet("look") or not subjects:
            return

        def ask(subject: T) -> ShardManifest | BadManifest | StoreUnavailable | None:
            try:
                return self._lake.shard(job_of(subject).shard)
            except (BadManifest, StoreUnavailable) as error:
                return error

        answers = in_parallel(ask, subjects)
        if away := next((answer for answer in answers if isinstance(answer, StoreUnavailable)), None):
            self._outages.unanswered("look", away)
        else:
            self._outages.answered("look")
        for subject, answer in zip(subjects, answers, strict=True):
            if not isinstance(answer, StoreUnavailable):
                yield subject, answer

    def add(self, seen: Seen) -> None:
        self._waiting.append(seen)

    def close(self) -> None:
        """What is being read is dropped."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def jobs(self) -> list[EmbedJob]:
        return [seen.job for seen in (*self._going.values(), *self._waiting)]

    def verdicts(self) -> Iterator[tuple[Seen, Found]]:
        """Those that are there; then as many shards are read as may be at once."""
        while self._waiting and len(self._going) < THREADS and not self._outages.not_yet("look"):
            seen = self._waiting.popleft()
            self._going[self._pool.submit(partial(self._judge, seen))] = seen
        for future in [future for future in self._going if future.done()]:
            seen = self._going.pop(future)
            try:
                found = future.result()
            except StoreUnavailable as error:
                self._outages.unanswered("look", error)
                self._waiting.append(seen)
            else:
                self._outages.answered("look")
                yield seen, found

    def pause(self, longest: float) -> float:
        """Waits for a verdict; what is to be slept where there is none to come before that."""
        if self._going:
            wait(self._going, longest, FIRST_COMPLETED)
            return 0.0
        if not self._waiting:
            return longest
        return min(longest, self._outages.backoff("look")) if self._outages.not_yet("look") else 0.0

    def _judge(self, seen: Seen) -> Found:
        if seen.manifest is None:
            return self._adoption.judge(seen.job)
        return Found(seen.manifest, self._prove(seen.job, seen.manifest))
