"""Where the first jobs of a run end alike, the rest is not launched."""

from pathlib import Path

import pytest

from embed_assets.drive.breaker import ALIKE, FIRST, Breaker
from embed_assets.drive.events import Committed, Failed
from resources.compute import JobHandle, JobState, JobStatus
from tests.kits.drive.bench import DriverBench

DRIVER = "the machine's driver, GPU, memory or disk is at fault (exit code 70)"


def test_so_many_of_the_first_ends_alike() -> None:
    breaker = Breaker()
    for kind in ["", "other", *[DRIVER] * (ALIKE - 1)]:
        breaker.ended(kind)
        assert not breaker.why
    breaker.ended(DRIVER)
    assert breaker.why == f"8 of the first 10 jobs of this run ended alike: {DRIVER}"


@pytest.mark.parametrize("kinds", [["", "", ""], ["a", "b", "c"], ["", "a", "b"]])
def test_what_comes_after_the_first_ends_or_has_no_kind_trips_nothing(kinds: list[str]) -> None:
    breaker = Breaker()
    for kind in [*kinds, *[DRIVER] * (FIRST - len(kinds)), *[DRIVER] * 100, *[""] * 100]:
        breaker.ended(kind)
    assert not breaker.why
    fresh = Breaker()
    for _ in range(100):
        fresh.ended("")
    assert not fresh.why


def test_the_rest_is_not_launched_and_what_runs_goes_on(tmp_path: Path) -> None:
    """100 partitions on a fleet with a bad driver: two jobs that were launched with the first go on to their commit."""
    bench = DriverBench(tmp_path, 100, slots=10)
    good = {bench.jobs[8].name, bench.jobs[9].name}

    def advance(handle: JobHandle, status: JobStatus) -> None:
        if handle.name not in good:
            status.state, status.detail, status.kind = JobState.FAILED, "too old", DRIVER
        elif bench.compute.calls["poll"] == 3:
            bench.commit(handle)
            status.state = JobState.SUCCEEDED

    bench.compute.advance = advance
    outcomes = bench.run()
    assert {o.job.name for o in outcomes if isinstance(o, Committed)} == good
    failed = [o for o in outcomes if isinstance(o, Failed)]
    assert len(failed) == 98 and sum(bench.compute.submitted.values()) == 10
    assert sum(f"not launched: 8 of the first 8 jobs of this run ended alike: {DRIVER}" in f.error for f in failed) > 80
    assert "10 jobs of this run were launched" in bench.told and "what runs goes on" in bench.told


def test_a_bad_driver_on_every_second_node_stops_nothing(tmp_path: Path) -> None:
    bench = DriverBench(tmp_path, 40, slots=10)
    seen: list[str] = []

    def advance(handle: JobHandle, status: JobStatus) -> None:
        seen.append(handle.id)
        if int(handle.id) % 2:
            status.state, status.kind = JobState.FAILED, DRIVER
        else:
            bench.commit(handle)
            status.state = JobState.SUCCEEDED

    bench.compute.advance = advance
    outcomes = bench.run(max_attempts=10)
    assert len([o for o in outcomes if isinstance(o, Committed)]) == 40
