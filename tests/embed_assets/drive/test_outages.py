"""A backend or a lake that is away is asked through, and takes nothing for a no."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from embed_assets.drive.events import Committed, Refusal, Unlimited
from embed_worker.lake.errors import StoreUnavailable
from embed_worker.lake.job import EmbedJob
from tests.kits.drive.bench import DriverBench, commit


def test_an_outage_is_noted_once_and_asked_through_with_growing_pauses(tmp_path: Path) -> None:
    bench = DriverBench(tmp_path)
    bench.states("running")
    polls = iter([True] + [False] * 12)
    bench.compute.on_ask = lambda what: next(polls, True) if what == "poll" else True

    def tell(text: str, *, warning: bool = False) -> None:
        bench.tell(text, warning=warning)
        if "answers again" in text:
            bench.states("commit")

    outcomes = list(bench.driver(tell=tell).run())
    assert [type(o) for o in outcomes] == [Committed]
    assert bench.told.count("does not answer") == 1
    assert max(bench.clock.sleeps) == 60.0
    assert bench.compute.calls["submit"] == 1


def test_launching_may_be_away_while_polling_works(tmp_path: Path) -> None:
    bench = DriverBench(tmp_path, 2, slots=2)
    bench.states(*["running"] * 20, "commit")
    answers = iter(["yes"] + ["lost before"] * 4)
    bench.compute.on_submit = lambda: next(answers, "yes")
    outcomes = bench.run()
    assert len(outcomes) == 2
    assert bench.told.count("does not answer") == 1
    assert bench.compute.calls["submit"] == 6
    assert set(bench.clock.sleeps) == {1.0}, "polling waits for launching"


def test_a_manifest_made_during_a_poll_outage_is_seen(tmp_path: Path) -> None:
    bench = DriverBench(tmp_path)
    bench.states("running", "commit")
    polls = iter([True] + [False] * 3)
    bench.compute.on_ask = lambda what: next(polls, True) if what == "poll" else True
    (outcome,) = bench.run()
    assert isinstance(outcome, Committed)
    assert bench.compute.calls["poll"] == 2


def lake_is_away(bench: DriverBench, path: str, at: int, until: int) -> None:
    """From one sleep of the driver to another; nothing else of the bench notices."""
    sleep = bench.clock.sleep

    def sleeping(seconds: float) -> None:
        sleep(seconds)
        bench.drivers_lake.store.away = path if at <= len(bench.clock.sleeps) < until else None

    bench.clock.sleep = sleeping  # type: ignore[method-assign]
    bench.drivers_lake.store.away = path if at == 0 else None


@pytest.mark.parametrize("path", ["", "embedding_shards/", "jobs/"])
@pytest.mark.parametrize("at", [0, 1, 2, 3])
def test_a_lake_outage_is_noted_and_ridden_out(tmp_path: Path, path: str, at: int) -> None:
    bench = DriverBench(tmp_path, 4, slots=1)
    commit(bench.lake, bench.jobs[0])
    bench.states("running", "commit")
    lake_is_away(bench, path, at, until=at + 4)
    outcomes = bench.run(max_attempts=1)
    assert [type(o) for o in outcomes] == [Committed] * 4
    assert bench.compute.submitted == {p.name: 1 for p in bench.jobs[1:]}
    away = [line for line in bench.told.splitlines() if "the lake does not answer" in line]
    assert len(away) == bench.told.count("the lake answers again") <= 2, "once for each thing that is asked of it"
    assert bool(away) == bool(bench.drivers_lake.store.asked)


@pytest.mark.parametrize("last", ["failed", "cancelled", "refused", "succeeded"])
def test_what_a_lake_that_is_away_does_not_say_is_not_taken_for_a_no(tmp_path: Path, last: str) -> None:
    bench = DriverBench(tmp_path)
    bench.states("running", f"{last}+commit")
    lake_is_away(bench, "", at=1, until=9)
    outcomes = bench.run(max_attempts=2)
    assert [(type(o), o.attempts) for o in outcomes] == [(Committed, 1)]
    assert bench.compute.calls["poll"] == len(bench.clock.sleeps), "the backend is polled meanwhile"
    assert bench.drivers_lake.store.asked < 6, "with growing pauses"


def test_a_damaged_shard_waits_for_the_lake_to_be_retired(tmp_path: Path) -> None:
    bench = DriverBench(tmp_path)
    commit(bench.lake, bench.jobs[0], digest="ff")
    bench.states("commit")
    lake_is_away(bench, "_retired", at=0, until=3)
    (outcome,) = bench.run()
    assert isinstance(outcome, Committed)
    assert (outcome.adopted, outcome.manifest.input.digest) == (False, "00")
    assert len(list(tmp_path.rglob("_retired-*.json"))) == 1


def test_a_budget_that_cannot_be_read_delays_launches_only(tmp_path: Path) -> None:
    bench = DriverBench(tmp_path, 2)
    bench.states("commit")
    answers = iter([StoreUnavailable("away"), StoreUnavailable("away"), None])

    class Away(Unlimited):
        def reserve(self, jobs: Sequence[EmbedJob]) -> tuple[list[EmbedJob], Refusal | None]:
            if (error := next(answers, None)) is not None:
                raise error
            return super().reserve(jobs)

    outcomes = bench.run(budget=Away())
    assert [type(o) for o in outcomes] == [Committed] * 2
    assert bench.told.count("the lake does not answer") == 1
