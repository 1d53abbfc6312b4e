"""What `gc` keeps for those who work, or wait for a machine: by the store's clock, whatever a node's says."""

import threading
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from embed_assets.estimate.costs import JobCost, write_cost
from embed_assets.estimate.reservations import Reservation, Reservations
from embed_assets.upkeep.gc import find_garbage, remove
from embed_assets.upkeep.verify import verify_lake
from embed_worker.attempt.runner import run_job
from embed_worker.engine.loading import LoadedModel, load_model
from embed_worker.lake import layout
from embed_worker.lake.manifests import ShardManifest, read_manifest
from embed_worker.lake.store import Store
from tests.kits import pipelines as kit
from tests.kits.attempt.jobs import CountingEngine
from tests.kits.lake.progress import grow_old, put_beat
from tests.kits.pipelines import Prepared

HOURS = 3600.0


def paths(store: Store) -> set[str]:
    return {item.path for item in find_garbage(store)}


def changed(lake: Path, source: Path) -> Prepared:
    """The source has changed, and is ingested and cut."""
    kit.write_jsonl(source, kit.texts(30))
    return Prepared(lake, str(source))


@pytest.fixture
def midway(lake: Path, source: Path) -> Prepared:
    """One of three shards is committed, two jobs are launched."""
    made = Prepared(lake, str(source))
    made.resource.write_job(made.job(0))
    made.embed(0)
    for stride in (1, 2):
        made.resource.write_job(made.job(stride))
    return made


def test_gc_in_mid_run_takes_nothing_from_a_worker_whose_clock_is_slow(
    midway: Prepared, source: Path, lake: Path
) -> None:
    """The source changes and is ingested under it; what it has read, and will write, is there at its end."""
    job = midway.job(1, heartbeat_seconds=0.01)
    begun, go_on = threading.Event(), threading.Event()

    class Held(CountingEngine):
        def hook(self, ids: tuple[int, ...], vector: Any) -> Any:
            begun.set()
            assert go_on.wait(60)
            return vector

    def load() -> LoadedModel:
        model = load_model(job.spec)
        model.engine = Held(job.spec)
        return model

    worker = threading.Thread(target=run_job, args=(job, load, threading.Event()))
    worker.start()
    try:
        assert begun.wait(60)
        put_beat(midway.store, job, "slow", clock=-2 * HOURS)
        changed(lake, source)
        for item in midway.store.listing(""):  # the finished shard's heartbeat is old
            if "d-00000" in item.path:
                grow_old(midway.store, item.path, 2 * HOURS)
        garbage = find_garbage(midway.store)
        remove(midway.store, garbage)
    finally:
        go_on.set()
        worker.join()
    for stride in (0, 1):
        assert read_manifest(midway.store, midway.job(stride).shard.manifest_path, ShardManifest) is not None
    assert not any(midway.raw.snapshot in item.path for item in garbage)
    midway.embed(2)  # it waited for a machine: its job file and its input are there
    assert midway.store.exists(midway.job(2).path)
    assert verify_lake(midway.store).damages == []


def test_a_job_that_waits_for_a_machine_keeps_its_input_for_a_day(midway: Prepared, source: Path, lake: Path) -> None:
    changed(lake, source)
    for path, _ in midway.store.walk("progress"):
        grow_old(midway.store, path, 2 * HOURS)
    for stride in (1, 2):
        grow_old(midway.store, midway.job(stride).path, 23 * HOURS)
    assert not any(midway.raw.snapshot in path for path in paths(midway.store))
    grow_old(midway.store, midway.job(1).path, 25 * HOURS)
    assert not any(midway.raw.snapshot in path for path in paths(midway.store)), "the other one waits"
    grow_old(midway.store, midway.job(2).path, 25 * HOURS)
    assert midway.raw.path in paths(midway.store)


@pytest.mark.parametrize("end", ["given up", "bad job"])
def test_what_will_not_be_tried_again_keeps_nothing(midway: Prepared, source: Path, lake: Path, end: str) -> None:
    changed(lake, source)
    for stride in (1, 2):
        grow_old(midway.store, midway.job(stride).path, 1 * HOURS)
        if end == "given up":
            midway.resource.give_up(midway.job(stride), "no capacity")
        else:
            put_beat(midway.store, midway.job(stride), phase="stopped", ending="bad_job")
    for path, _ in midway.store.walk("progress"):
        grow_old(midway.store, path, HOURS / 2)
    found = paths(midway.store)
    assert midway.raw.path in found
    assert {midway.job(stride).path for stride in range(3)} <= found


def test_between_two_jobs_of_a_local_run_its_snapshot_stays(midway: Prepared, source: Path, lake: Path) -> None:
    """On this machine a job file is written when a worker is free: for a moment there is none."""
    changed(lake, source)
    midway.store.delete("jobs")
    assert not any(midway.raw.snapshot in path for path in paths(midway.store))


def test_the_heartbeats_of_a_removed_dataset_go_at_once_when_nobody_is_alive(midway: Prepared) -> None:
    alive = put_beat(midway.store, midway.job(1), "alive")
    put_beat(midway.store, midway.job(2), "gone", phase="stopped", ending="preempted")
    for asset in ("raw_reviews", "stride_partitions", "embedding_shards"):
        midway.store.delete(asset)
    found = {item.path: item.why for item in find_garbage(midway.store)}
    left = {path for path, _ in midway.store.walk("")} - found.keys()
    assert left == {alive, midway.job(1).path, layout.canaries_file(midway.pipeline.embedding.spec_id)}
    assert found["progress/d-00002/gone.json"] == "heartbeat: its dataset is gone"
    grow_old(midway.store, alive, 901)
    remove(midway.store, find_garbage(midway.store))
    assert list(midway.store.walk("")) == []


def test_each_reason_is_its_own(midway: Prepared, source: Path, lake: Path) -> None:
    for path, _ in midway.store.walk("progress"):
        grow_old(midway.store, path, HOURS)
    whys = {item.path: item.why for item in find_garbage(midway.store)}
    [beat] = [path for path in whys if path.startswith("progress/")]
    assert whys == {
        beat: "heartbeat: its partition is committed",
        midway.job(0).path: "job file: its partition is committed",
    }
    changed(lake, source)
    for stride in (1, 2):
        grow_old(midway.store, midway.job(stride).path, 25 * HOURS)
    whys = {item.path: item.why for item in find_garbage(midway.store)}
    assert whys[midway.job(1).path] == "job file: its rows are in no kept snapshot"
    assert whys[beat] == "heartbeat: its rows are in no kept snapshot"


def cost(store: Store, dataset: str, spec_id: str) -> str:
    write_cost(store, JobCost(pipeline="p", dataset=dataset, partition=f"{dataset}-00001", spec_id=spec_id, job="7",
                              rows=1, committed=True, usd=0.5, on_demand_usd=None))  # fmt: skip
    return f"costs/p/{dataset}-00001.7.json"


def test_costs_stay_with_their_dataset_and_canaries_with_their_spec(midway: Prepared) -> None:
    spec_id = midway.pipeline.embedding.spec_id
    kept = cost(midway.store, "d", spec_id)
    gone = [cost(midway.store, name, spec_id) for name in ("d-", "d.x", "other")]
    aside = Reservation.of(midway.job(1), 0.5)
    left = replace(aside, partition="other-00001")
    Reservations(midway.store, "p").put([aside, left])
    space = layout.canaries_file(spec_id)
    assert midway.store.exists(space)
    midway.store.create(layout.canaries_file("nobodys-0123"), b"{}")
    found = {item.path: item.why for item in find_garbage(midway.store)}
    assert {path for path in found if not path.startswith(("jobs/", "progress/"))} == {
        *gone, left.path, layout.canaries_file("nobodys-0123"),
    }  # fmt: skip
    assert found[gone[0]] == "cost of a job: its dataset is gone"
    assert found[left.path] == "dollars put aside for a job: its dataset is gone"
    assert kept not in found and space not in found


class Counting(Store):
    """Counts questions by kind, and those that the asking thread waits for alone."""

    def __init__(self, root: str) -> None:
        super().__init__(root)
        self.asked: Counter[str] = Counter()
        self.alone = 0
        self._lock = threading.Lock()

    def count(self, question: str) -> None:
        with self._lock:
            self.asked[question] += 1
            self.alone += threading.current_thread() is threading.main_thread()


def counted(question: str) -> Any:
    ask = getattr(Store, question)

    def method(store: Counting, *arguments: Any, **options: Any) -> Any:
        store.count(question)
        return ask(store, *arguments, **options)

    return method


for question in ("exists", "read", "open", "list", "listing", "walk", "now", "create", "replace", "delete"):
    setattr(Counting, question, counted(question))


@pytest.mark.parametrize("strides", [5, pytest.param(20, marks=pytest.mark.slow)])
def test_a_bucket_is_asked_a_fixed_number_of_questions_one_after_another(
    s3_root: str, source: Path, strides: int
) -> None:
    kit.write_jsonl(source, kit.texts(strides))
    made = Prepared(s3_root, str(source), strides=strides)
    for stride in range(strides):
        made.resource.write_job(made.job(stride))
        made.embed(stride)
    store = Counting(s3_root)
    garbage = find_garbage(store)
    assert len([item for item in garbage if item.path.startswith("jobs/")]) == strides
    assert store.asked["exists"] == 0
    assert store.asked["read"] <= 3 * strides + 5, "each manifest, heartbeat and job file once"
    assert store.asked["list"] + store.asked["listing"] <= 12
    assert store.alone <= 4, "the others are asked side by side"
    remove(store, garbage)
    assert store.alone <= 4 and store.asked["delete"] == len(garbage)


@pytest.mark.parametrize("at_work", [True, False])
def test_what_a_job_may_take_vectors_from_stays_as_long_as_it_is_awaited(
    midway: Prepared, source: Path, lake: Path, at_work: bool
) -> None:
    now = changed(lake, source)
    base = midway.job(0).shard
    job = now.job(0, reuse=[base])
    now.resource.write_job(job)
    for stride in (1, 2):
        midway.store.delete(midway.job(stride).path)
    for path, _ in midway.store.walk("progress"):
        grow_old(midway.store, path, 2 * HOURS)
    if not at_work:
        grow_old(now.store, job.path, 25 * HOURS)
    assert (base.folder in paths(now.store)) is not at_work
    now.embed(0, reuse=[base])
    assert base.folder in paths(now.store)
