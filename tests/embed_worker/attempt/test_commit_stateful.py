"""The commit protocol against a model: attempts that take turns at every call of the store, freeze, die and wake."""

import os
import uuid
from collections.abc import Iterator
from functools import cache
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from embed_assets.upkeep.gc import find_garbage
from embed_worker.engine.loading import load_tokenizer
from embed_worker.lake import layout
from embed_worker.lake.identity import text_key
from embed_worker.lake.job import EmbedJob
from embed_worker.lake.spec import EmbeddingSpec
from embed_worker.lake.store import Store
from tests.kits.attempt.jobs import leftovers, make_job, make_spec, prove
from tests.kits.attempt.stepping import VERSIONS, SteppedAttempt, bucket, fast_folder, stepping
from tests.kits.attempt.watched_shard import WatchedShard

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("EMBED_CHAOS_KILLS", "0"))
"""So many sequences are tried in a long run; each kills an attempt or two."""
TEXTS = ["a first text", "a second", "windows " * 9, "\t", "", "\n", "the last but two", "the last but one", "the last"]
REJECTED = {33: "blank text", 43: "blank text", 53: "blank text"}
CHECKPOINT_ROWS = 2
EXAMPLES = 100
ALIVE = 4
TRIES = 12
ANYWHERE = "anywhere"
END = "end"
OFTEN = ("checkpoint.data", "checkpoint.record", "checkpoint.written", "create", "exists", "read", "list", "delete")
ONCE = (
    *("attempt.fetched", "attempt.embedded", "part.written", "part.published", "rejects.published", "manifest.ready"),
    *("manifest.created", "sweep.begun", "sweep.checkpoints"),
)
KINDS = {
    "race": ["text", "text", "text", "bytes", "metadata", "spec"],
    "damage": ["text", "bytes", "metadata"],
}
"""What attempts there are in an example: of one job, some over damaged files."""
Turn = tuple[bool, int, int, tuple[str, int]]
stops = st.one_of(
    st.tuples(st.sampled_from(OFTEN), st.integers(1, 5)),
    st.tuples(st.sampled_from(ONCE), st.just(1)),
    st.sampled_from([("checkpoint.data", 1), ("checkpoint.data", 2), ("manifest.ready", 1), (END, 1)]),
    st.tuples(st.just(ANYWHERE), st.integers(1, 4)),
    st.tuples(st.just(ANYWHERE), st.integers(1, 60)),
)
"""Where an attempt stops next: at a place, the how-manieth time from here."""
picked = st.integers(0, ALIVE - 1)
turns = st.tuples(st.booleans(), picked, st.integers(0, 5), stops)
"""Whether it is that of a new attempt, which of the others', what kind a new one is, and where it stops."""
wakings = st.sampled_from(["checkpoint.record", *ONCE, END])


def profile(examples: int) -> settings:
    return settings(
        max_examples=examples,
        stateful_step_count=8,
        derandomize=not KILLS,
        deadline=None,
        report_multiple_bugs=False,
        phases=[Phase.explicit, Phase.generate],  # shrinking takes minutes; a failing run is short enough to read
        suppress_health_check=list(HealthCheck),
        print_blob=True,
    )


def with_other_spec(job: EmbedJob) -> EmbedJob:
    """The same rows for another space: another shard."""
    spec = make_spec(pooling="cls")
    return job.model_copy(update={"spec": spec, "shard": job.shard.model_copy(update={"spec_id": spec.spec_id})})


@cache
def sequences(spec: str) -> list[set[tuple[int, ...]]]:
    """Of each checkpoint, what the engine is given for it."""
    tokenizer = load_tokenizer(EmbeddingSpec.model_validate_json(spec))
    windows = [tokenizer.windows([text], "")[0] if text.strip() else [] for text in sorted(TEXTS, key=text_key)]
    return [
        {window.ids for found in windows[i : i + CHECKPOINT_ROWS] for window in found}
        for i in range(0, len(TEXTS), CHECKPOINT_ROWS)
    ]


class CommitMachine(RuleBasedStateMachine):
    root: ClassVar[str]
    every_write: ClassVar[bool]
    """Look after each write of an attempt, not only after each rule."""

    @initialize(
        wake=wakings,
        mode=st.sampled_from(["race", "race", "damage"]),
        first=st.lists(turns, min_size=3, max_size=6),
    )
    def begin(self, wake: str, mode: str, first: list[Turn]) -> None:
        self.wake, self.mode = wake, mode
        lake = f"{self.root}/{uuid.uuid4().hex}"
        job = make_job(lake, TEXTS, checkpoint_rows=CHECKPOINT_ROWS)
        self.jobs = {
            "text": job,
            "spec": with_other_spec(job),
        }
        self.store = Store(lake)
        self.alive: list[SteppedAttempt] = []
        self.dead: list[SteppedAttempt] = []
        self.shards = {job.shard.folder: WatchedShard(self.store, job) for job in (job, self.jobs["spec"])}
        self.main = self.shards[job.shard.folder]
        self.disturbed = False
        self.wins: dict[str, int] = {}
        self.damages = 0
        for turn in first:
            self.turn(turn)

    @rule(turn=turns)
    def turn(self, turn: Turn) -> None:
        """An attempt goes on to its next stop; the others are zombies meanwhile."""
        new, which, number, (place, times) = turn
        if not self.alive or (new and len(self.alive) < ALIVE):
            which = len(self.alive)
            kind = KINDS[self.mode][number % len(KINDS[self.mode])]
            version = kind if kind in VERSIONS else "same"
            self.alive.append(SteppedAttempt(self.jobs.get(kind, self.jobs["text"]), version))
        self.go(self.alive[which % len(self.alive)], place, times)

    @precondition(lambda self: len(self.alive) > 1)
    @rule(which=picked)
    def kill(self, which: int) -> None:
        self.dead.append(self.alive.pop(which % len(self.alive)))

    @precondition(
        lambda self: self.mode == "damage" and self.damages < 3 and self.store.exists(self.main.job.shard.folder)
    )
    @rule(number=st.integers(0, 40), kind=st.sampled_from(["truncate", "flip", "delete"]))
    def damage(self, number: int, kind: str) -> None:
        self.damages += 1
        self.disturbed = True
        self.main.damage(number, kind)

    @precondition(lambda self: self.damages)
    @rule()
    def repair(self) -> None:
        """Assumed: no attempt is frozen over it within its sweep's deletes, or within the put of its manifest."""
        if self.main.repair():
            self.dead += [attempt for attempt in self.alive if attempt.past_looking]
            self.alive = [attempt for attempt in self.alive if not attempt.past_looking]

    @precondition(lambda self: self.main.manifest)
    @rule()
    def gc(self) -> None:
        self.collect_garbage()

    def collect_garbage(self) -> None:
        for garbage in list(find_garbage(self.store)):
            self.store.delete(garbage.path)

    def go(self, attempt: SteppedAttempt, place: str = END, times: int = 1) -> None:
        """To the place, the so-manieth time from here; to the end where it does not get there."""
        if attempt.over:
            return
        while times and not attempt.over:
            attempt.step()
            times -= place in (attempt.at, ANYWHERE)
            if attempt.wrote and self.every_write:
                attempt.wrote = False
                self.shards[attempt.job.shard.folder].look()
        self.shards[attempt.job.shard.folder].look()
        if attempt.over:
            self.settle(attempt)

    def settle(self, attempt: SteppedAttempt) -> None:
        if attempt in self.alive:
            self.alive.remove(attempt)
        output = attempt.job.shard.folder
        if attempt.won:
            self.wins[output] = self.wins.get(output, 0) + 1
            assert self.wins[output] <= self.shards[output].generation, "two attempts have won"
        elif isinstance(attempt.end, AssertionError) or (attempt.end and not self.disturbed):
            raise attempt.end

    def teardown(self) -> None:
        if not hasattr(self, "jobs"):
            return
        try:
            jobs = [self.jobs["text"]]
            if any(attempt.job.shard.folder != jobs[0].shard.folder for attempt in [*self.alive, *self.dead]):
                jobs.append(self.jobs["spec"])
            for job in jobs:
                self.finish(job, self.wake)
            self.awaken()
            for job in jobs:
                self.finish(job)
                orphans = [name for name in leftovers(job) if not name.startswith(layout.RETIRED)]
                assert orphans == [], "a sweep leaves nothing but retired manifests"
            self.collect_garbage()
            with fast_folder() as folder:
                for job in jobs:
                    prove(job, TEXTS, folder, REJECTED)
                    assert leftovers(job) == []
        finally:
            for attempt in [*self.alive, *self.dead]:
                attempt.bury()
            for folder in self.store.list(""):
                self.store.delete(folder)

    def awaken(self) -> None:
        for zombie in list(self.alive):
            self.go(zombie)

    def finish(self, job: EmbedJob, wake: str = "") -> None:
        """Materializes a partition until it is done, as the driver and the person at it do.

        The zombies wake when the attempt gets to `wake`, or when all is over.
        """
        shard = self.shards[job.shard.folder]
        for _ in range(TRIES):
            if shard is self.main:
                self.repair()
            sound = shard.sound()
            attempt = SteppedAttempt(job)
            if wake:
                self.go(attempt, wake)
                if not attempt.over:
                    self.awaken()
                    wake = ""
                    if self.disturbed:
                        sound = set()  # a zombie may retire what was damaged once more
            self.go(attempt)
            again = set(attempt.engine.seen) & {ids for i in sound for ids in sequences(job.spec.model_dump_json())[i]}
            assert not again, "what is committed was embedded again"
            if attempt.end is None:
                return
        raise AssertionError("no attempt commits the partition") from attempt.end


@pytest.fixture(autouse=True)
def _stepping() -> Iterator[None]:
    with stepping():
        yield


def check(root: str, examples: int, every_write: bool = True) -> None:
    machine = type("Machine", (CommitMachine,), {"root": root, "every_write": every_write})
    run_state_machine_as_test(machine, settings=profile(examples))  # type: ignore[no-untyped-call]


def test_any_interleaving_commits_once_on_a_disk() -> None:
    with fast_folder() as folder:
        check(str(folder), KILLS or EXAMPLES)


def test_any_interleaving_commits_once_on_an_object_store() -> None:
    with bucket() as root:
        check(root, KILLS or EXAMPLES)


def test_any_interleaving_commits_once_on_s3(s3_root: str) -> None:
    check(s3_root, KILLS // 20 or 3, every_write=False)
