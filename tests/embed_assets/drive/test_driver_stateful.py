"""The driver against a model: no interleaving doubles a job, loses a partition or calls one done too early."""

import shutil
import tempfile
from collections.abc import Container
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from embed_assets.drive.events import Committed, Failed
from embed_assets.drive.outages import Stopped
from resources.compute import JobState
from tests.kits import LONG
from tests.kits.drive.bench import commit
from tests.kits.drive.model_world import ModelWorld
from tests.kits.drive.sky_world import SkyPilotWorld
from tests.kits.drive.world import CALLS, Run, World

pytestmark = pytest.mark.slow

PROFILE = settings(
    max_examples=2000 if LONG else 100,
    stateful_step_count=60 if LONG else 30,
    derandomize=not LONG,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    print_blob=True,
)
TURNS_TO_THE_END = 400
HOPELESS = {JobState.REFUSED, JobState.CANCELLED}
INTERRUPTS = ("cancel", "cancel", "crash", *(f"{when} {call}" for when in ("before", "after") for call in CALLS))
picked = st.integers(0, 7)


class DriverMachine(RuleBasedStateMachine):
    World: type[World]

    @initialize(strides=st.integers(1, 3), slots=st.integers(1, 3), attempts=st.integers(1, 3))
    def begin(self, strides: int, slots: int, attempts: int) -> None:
        self.folder = tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None)
        self.world = self.World(Path(self.folder), strides, slots)
        self.attempts = attempts
        self.run: Run | None = None
        self.late: list[str] = []
        self.sound = True

    # -- the driver ------------------------------------------------------------------------------

    def start(self) -> None:
        self.world.crash_at = ""
        self.done_before = {p.name for p in self.world.jobs if self.world.valid(p.name)}
        self.reported: dict[str, Committed | Failed] = {}
        self.told_to_stop = False
        self.jobs_before = {id(job) for job in self.world.live()}
        self.run = self.world.start(self.attempts)

    @rule(data=st.data(), turns=st.integers(1, 8))
    def turn(self, data: st.DataObject, turns: int) -> None:
        if self.run is None:
            self.start()
        for _ in range(turns):
            if self.run is not None:
                self.happens(data)
                self.step()

    @rule(data=st.data(), how=st.sampled_from(INTERRUPTS))
    def interrupt(self, data: st.DataObject, how: str) -> None:
        """Terminate in the UI, or kill -9: while the driver sleeps, or at a call that is to come."""
        if self.run is None:
            self.start()
        self.happens(data)
        if data.draw(st.booleans()):
            self.step()
        if self.run is None:
            return
        if how == "cancel":
            self.cancel(self.run)
        elif how == "crash":
            self.run.crash = True
            self.step()
            self.run = None
        else:
            self.world.crash_at = how

    def cancel(self, run: Run) -> None:
        """The run's jobs are stopped, those too whose submit was not answered."""
        run.wanted = False
        self.told_to_stop = self.world.witness.may_cancel = True
        self.step()
        if self.run is not None:  # it had not slept yet
            self.step()
        assert self.run is None, "the driver goes on in spite of its cancellation"

    # -- the world -------------------------------------------------------------------------------

    @rule(data=st.data())
    def happens(self, data: st.DataObject) -> None:
        for what in data.draw(st.lists(st.sampled_from(["move", "move", "move", "fault"]), max_size=3)):
            if what == "fault":
                self.world.arm(data.draw(st.sampled_from(self.world.faults)))
            elif live := self.world.live():
                self.move(data, live[data.draw(picked) % len(live)])

    def move(self, data: st.DataObject, job: Any) -> None:
        """A job goes on, is preempted, or ends; its manifest comes before, later or never."""
        name = self.world.name(job)
        state = data.draw(st.sampled_from(self.world.moves))
        commits = data.draw(st.sampled_from(["no", "no", "now", "late"]))
        if state.lower() == "succeeded":
            commits = {"no": "now", "now": "no"}.get(commits, commits)
        if commits == "now":
            commit(self.world.lake, self.world.job_of(name))
        elif commits == "late":
            self.late.append(name)
        self.world.move(job, state)

    @precondition(lambda self: bool(self.late))
    @rule()
    def late_manifest(self) -> None:
        """A zombie commits after all."""
        commit(self.world.lake, self.world.job_of(self.late.pop()))

    @precondition(lambda self: self.run is None and not self.world.live())
    @rule(which=picked, garbage=st.booleans())
    def damage(self, which: int, garbage: bool) -> None:
        """Between runs, a shard turns out to be made of another input, or its manifest to be none."""
        job = self.world.jobs[which % len(self.world.jobs)]
        self.world.lake.store.delete(job.shard.manifest_path)
        if garbage:
            self.world.lake.store.create(job.shard.manifest_path, b"garbage")
        else:
            commit(self.world.lake, job, digest="ff")

    # -- what must hold --------------------------------------------------------------------------

    @invariant()
    def never_two_live_jobs_of_one_name(self) -> None:
        assert not getattr(self, "world", None) or not self.world.doubled

    @invariant()
    def jobs_of_others_are_left_alone(self) -> None:
        assert not getattr(self, "world", None) or self.world.foreign_states() == {"RUNNING"}

    def manifests(self) -> dict[str, bytes]:
        """The valid ones, by the name of the job."""
        valid = [job for job in self.world.jobs if self.world.valid(job.name)]
        return {job.name: self.world.lake.store.read(job.shard.manifest_path) for job in valid}

    def step(self) -> None:
        run = self.run
        assert run is not None
        self.sound = False
        before, jobs_before = self.manifests(), len(self.world.live())
        for outcome in run.step():
            self.reports(outcome, before)
        assert before.items() <= self.manifests().items(), "a valid manifest is gone"
        if len(self.world.live()) > jobs_before:
            new = {self.world.name(job) for job in self.world.live() if id(job) not in self.jobs_before}
            wasted = [name for name in self.done_before if any(n.endswith(name) for n in new)]
            assert not wasted, f"launched what was committed: {wasted}"
        if run.over:
            self.run = None
            self.ended(run)
        self.sound = True

    def reports(self, outcome: Committed | Failed, committed: Container[str]) -> None:
        assert outcome.job.shard.key not in self.reported, f"{outcome.job.shard.key} is reported twice"
        self.reported[outcome.job.shard.key] = outcome
        name = next(p.name for p in self.world.jobs if p.shard.key == outcome.job.shard.key)
        self.world.witness.reported.add(name)
        ends = self.world.witness.ends[name]
        if isinstance(outcome, Committed):
            assert self.world.valid(name), f"{outcome.job.shard.key} is green without a valid manifest"
            assert outcome.adopted or name not in self.done_before, f"{outcome.job.shard.key} is not adopted"
            assert outcome.attempts in ((0,) if outcome.adopted else (len(ends), len(ends) + 1))
            return
        live = {self.world.name(job) for job in self.world.live()}
        assert not any(job.endswith(name) for job in live), f"{outcome.job.shard.key} is given up, its job lives"
        assert name not in committed, f"{outcome.job.shard.key} is given up, its manifest is there"
        assert outcome.attempts == len(ends), f"{outcome.job.shard.key}: attempts are not the jobs that ended"
        assert ends[-1] in HOPELESS or len(ends) == self.attempts, f"{outcome.job.shard.key} is given up too early"
        assert not HOPELESS & set(ends[:-1]), f"{outcome.job.shard.key} is tried again in vain"

    def ended(self, run: Run) -> None:
        if run.end is None:
            assert set(self.reported) == {p.shard.key for p in self.world.jobs}, "a partition is lost"
        elif isinstance(run.end, Stopped):
            assert self.told_to_stop, "the run stops and nobody told it to"
            self.world.pass_time(0.0)
            self.world.peace()
            run.driver.cancel()
            left = [name for job in self.world.live() if not self.world.valid(name := self.world.name(job))]
            assert not left, "a job goes on after its run was cancelled"

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        try:
            if self.sound:
                self.world.peace()
                self.go_on_to_the_end()
                self.start()
                self.go_on_to_the_end()
                assert all(isinstance(outcome, Committed) for outcome in self.reported.values()), self.reported
                assert all(self.world.valid(p.name) for p in self.world.jobs)
                assert not self.world.live() and not self.world.doubled
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)

    def go_on_to_the_end(self) -> None:
        """With no more faults, the run must come to its end; each job that lives succeeds."""
        for _ in range(TURNS_TO_THE_END):
            if self.run is None:
                return
            for job in self.world.live():
                commit(self.world.lake, self.world.job_of(self.world.name(job)))
                self.world.move(job, self.world.success)
            self.step()
        raise AssertionError("the driver does not come to an end")


@pytest.mark.parametrize("world", [ModelWorld, SkyPilotWorld])
def test_any_interleaving_keeps_the_promises(world: type[World]) -> None:
    run_state_machine_as_test(type("Machine", (DriverMachine,), {"World": world}), settings=PROFILE)  # type: ignore[no-untyped-call]
