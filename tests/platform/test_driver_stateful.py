"""The driver against a model: no interleaving doubles a job, loses a partition or calls one done too early."""

import os
import shutil
import tempfile
from pathlib import Path

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

from embed_assets.driver import Committed, Failed, Stopped
from tests.platform.driver_world import CALLS, ModelWorld, Run, SkyPilotWorld, World
from tests.platform.test_driver import commit

LONG = os.environ.get("HYPOTHESIS_PROFILE") == "long"
PROFILE = settings(
    max_examples=1500 if LONG else 60,
    stateful_step_count=60 if LONG else 30,
    derandomize=not LONG,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    print_blob=True,
)
TURNS_TO_THE_END = 400
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

    # -- the driver ------------------------------------------------------------------------------

    @precondition(lambda self: self.run is None)
    @rule()
    def start(self) -> None:
        self.world.crash_at = ""
        self.done_before = {p.name for p in self.world.plans if self.valid(p.name)}
        self.reported: dict[str, Committed | Failed] = {}
        self.jobs_before = {id(job) for job in self.world.live()}
        self.run = self.world.start(self.attempts)

    @precondition(lambda self: self.run is not None)
    @rule(turns=st.integers(1, 6))
    def turn(self, turns: int) -> None:
        for _ in range(turns):
            if self.run is not None:
                self.step()

    @precondition(lambda self: self.run is not None)
    @rule()
    def crash(self) -> None:
        """kill -9, while the driver sleeps."""
        assert self.run is not None
        self.run.crash = True
        self.step()
        self.run = None

    @precondition(lambda self: self.run is not None)
    @rule(when=st.sampled_from(["before", "after"]), call=st.sampled_from(CALLS))
    def crash_in_a_call(self, when: str, call: str) -> None:
        self.world.crash_at = f"{when} {call}"

    @precondition(lambda self: self.run is not None)
    @rule()
    def cancel(self) -> None:
        """Terminate in the UI: the run's jobs are stopped, those too whose submit was not answered."""
        assert self.run is not None
        self.run.wanted = False
        self.step()

    # -- the world -------------------------------------------------------------------------------

    @rule(data=st.data())
    def fault(self, data: st.DataObject) -> None:
        self.world.arm(data.draw(st.sampled_from(self.world.faults)))

    @precondition(lambda self: bool(self.world.live()))
    @rule(data=st.data(), which=picked, commits=st.sampled_from(["no", "no", "now", "late"]))
    def move(self, data: st.DataObject, which: int, commits: str) -> None:
        """A job goes on, is preempted, or ends; its manifest comes before, later or never."""
        live = self.world.live()
        job = live[which % len(live)]
        name = self.world.name(job)
        state = data.draw(st.sampled_from(self.world.moves))
        if commits == "now" or (state.lower() == "succeeded" and commits != "late"):
            commit(self.world.lake, self.world.plan_of(name))
        elif commits == "late":
            self.late.append(name)
        self.world.move(job, state)

    @precondition(lambda self: bool(self.late))
    @rule()
    def late_manifest(self) -> None:
        """A zombie commits after all."""
        commit(self.world.lake, self.world.plan_of(self.late.pop()))

    @precondition(lambda self: self.run is None and not self.world.live())
    @rule(which=picked, garbage=st.booleans())
    def damage(self, which: int, garbage: bool) -> None:
        """Between runs, a shard turns out to be made of another input, or its manifest to be none."""
        plan = self.world.plans[which % len(self.world.plans)]
        self.world.lake.store.delete(plan.job.manifest_path)
        if garbage:
            self.world.lake.store.create(plan.job.manifest_path, b"garbage")
        else:
            commit(self.world.lake, plan, digest="another input")

    # -- what must hold --------------------------------------------------------------------------

    def valid(self, name: str) -> bool:
        plan = self.world.plan_of(name)
        try:
            manifest = self.world.lake.shard(plan.job.output)
        except ValueError:
            return False
        return manifest is not None and manifest.input.digest == plan.job.input.digest

    @invariant()
    def never_two_live_jobs_of_one_name(self) -> None:
        assert not getattr(self, "world", None) or not self.world.doubled

    def step(self) -> None:
        run = self.run
        assert run is not None
        before = len(self.world.live())
        reported = run.step()
        for outcome in reported:
            assert outcome.key not in self.reported, f"{outcome.key} is reported twice"
            self.reported[outcome.key] = outcome
            plan = next(p for p in self.world.plans if p.key == outcome.key)
            live = {self.world.name(job) for job in self.world.live()}
            if isinstance(outcome, Committed):
                assert self.valid(plan.name), f"{plan.key} is green without a valid manifest"
            else:
                assert not any(name.endswith(plan.name) for name in live), f"{plan.key} is given up, its job lives"
        if len(self.world.live()) > before:
            new = {self.world.name(job) for job in self.world.live() if id(job) not in self.jobs_before}
            wasted = [name for name in self.done_before if any(n.endswith(name) for n in new)]
            assert not wasted, f"launched what was committed: {wasted}"
        if run.over:
            self.run = None
            if run.end is None:
                assert set(self.reported) == {p.key for p in self.world.plans}, "a partition is lost"
            elif isinstance(run.end, Stopped):
                self.world.pass_time(0.0)
                self.world.peace()
                run.driver.cancel()
                left = [name for job in self.world.live() if not self.valid(name := self.world.name(job))]
                assert not left, "a job goes on after its run was cancelled"

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        try:
            if self.run is not None and not self.run.over:
                self.run.crash = True
                self.run.step()
            self.world.peace()
            self.to_the_end()
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)

    def to_the_end(self) -> None:
        """With no more faults, a last run must make all that is not made."""
        self.start()
        for _ in range(TURNS_TO_THE_END):
            if self.run is None:
                break
            for job in self.world.live():
                commit(self.world.lake, self.world.plan_of(self.world.name(job)))
                self.world.move(job, self.world.moves[3])
            self.step()
        assert self.run is None, "the driver does not come to an end"
        assert all(isinstance(outcome, Committed) for outcome in self.reported.values()), self.reported
        assert all(self.valid(p.name) for p in self.world.plans)
        assert not self.world.live() and not self.world.doubled


@pytest.mark.parametrize("world", [ModelWorld, SkyPilotWorld])
def test_any_interleaving_keeps_the_promises(world: type[World]) -> None:
    run_state_machine_as_test(type("Machine", (DriverMachine,), {"World": world}), settings=PROFILE)  # type: ignore[no-untyped-call]
