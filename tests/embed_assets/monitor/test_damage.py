"""What the monitor shows of a lake whose manifests are damaged: the damage, and all the rest."""

import time
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from embed_assets.monitor.app import build_app
from embed_assets.monitor.lake import ReadOnlyLake
from embed_assets.monitor.scan import FULL_SECONDS
from embed_assets.monitor.states import State
from embed_assets.monitor.watch import Watch
from tests.kits.clock import Clock
from tests.kits.monitor_lake import FakeLake

BAD = "materialize embedding_shards of books-00001 again"


@pytest.fixture
def clock() -> Clock:
    return Clock(time.time())


@pytest.fixture
def made(lake: Path, clock: Clock) -> FakeLake:
    """One shard is committed, one is at work."""
    made = FakeLake(lake, 3)
    made.shard(1, clock.now)
    made.beat(2, clock.now)
    return made


def spoil(made: FakeLake, path: str) -> bytes:
    whole = (made.root / path).read_bytes()
    made.put(path, whole[:-9].decode() + "}")
    return whole


def metrics(watch: Watch) -> dict[str, float]:
    text = TestClient(build_app(watch, None), base_url="http://127.0.0.1").get("/metrics").text
    families = text_string_to_metric_families(text)
    return {f"{s.name}{sorted(s.labels.values())}": s.value for f in families for s in f.samples}


def test_a_damaged_shard_is_a_state_and_no_other_is_hidden(made: FakeLake, clock: Clock) -> None:
    spoil(made, made.shard_path(1))
    watch = Watch(ReadOnlyLake(str(made.root)), clock=clock)
    watch.look()
    waiting, damaged, running = watch.all_partitions()
    assert (waiting.state, damaged.state, running.state) == (State.WAITING, State.DAMAGED, State.RUNNING)
    assert damaged.error is not None and damaged.error.endswith(BAD)
    assert metrics(watch)["embed_partitions['books', 'damaged']"] == 1


def test_damage_and_repair_of_a_known_shard_are_noticed(made: FakeLake, clock: Clock) -> None:
    watch = Watch(ReadOnlyLake(str(made.root)), clock=clock)
    watch.look()
    assert watch.all_partitions()[1].state is State.COMMITTED
    whole = spoil(made, made.shard_path(1))
    clock.now += FULL_SECONDS
    watch.look()
    assert watch.all_partitions()[1].state is State.DAMAGED
    made.put(made.shard_path(1), whole.decode())
    clock.now += FULL_SECONDS
    watch.look()
    assert watch.all_partitions()[1].state is State.COMMITTED


@pytest.mark.parametrize("asset", ["base", "raw", "strides"])
def test_damage_upstream_is_told_with_its_cure(made: FakeLake, clock: Clock, asset: str) -> None:
    watch = Watch(ReadOnlyLake(str(made.root)), clock=clock)
    watch.look()
    path = getattr(made, asset)
    whole = spoil(made, path)
    clock.now += FULL_SECONDS
    watch.look()
    [damage] = watch.progress.damages
    cure = "stride_partitions" if asset == "strides" else "raw_reviews"
    assert damage.path == path and damage.what.endswith(f"materialize {cure} of books again")
    assert metrics(watch)["embed_damaged_files[]"] == 1
    assert [one.state for one in watch.all_partitions()][1:] == [State.COMMITTED, State.STALE], "as last known"
    made.put(path, whole.decode())
    clock.now += FULL_SECONDS
    watch.look()
    assert watch.progress.damages == []


def test_a_failed_attempt_is_told_at_once_and_a_given_up_partition_has_failed(lake: Path, clock: Clock) -> None:
    made = FakeLake(lake, 2)
    made.beat(0, clock.now, phase="stopped", ending="failed", error="RuntimeError")
    watch = Watch(ReadOnlyLake(str(lake)), clock=clock)
    watch.look()
    one = watch.all_partitions()[0]
    assert (one.state, one.ending, one.error) == (State.RECOVERING, "failed", "RuntimeError")
    assert metrics(watch)["embed_failed_attempts[]"] == 1 and metrics(watch)["embed_partitions['books', 'failed']"] == 0
    clock.now += 5
    made.give_up(0, clock.now, "RuntimeError: CUDA error")
    made.give_up(1, clock.now, "has not started to run within 600 s")
    watch.look()
    assert [(p.state, p.error) for p in watch.all_partitions()] == [
        (State.FAILED, "RuntimeError: CUDA error"), (State.FAILED, "has not started to run within 600 s"),
    ]  # fmt: skip
    assert metrics(watch)["embed_failed_attempts[]"] == 2
