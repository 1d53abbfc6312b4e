"""Several engines on one partition: shares, a lane that dies, a node's GPUs."""

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from embed_assets.estimate.speed import accelerator_of
from embed_worker.attempt import crew, lanes
from embed_worker.attempt.checkpoints import Checkpoints
from embed_worker.attempt.lanes import Lane, engine_groups, lanes_of
from embed_worker.attempt.runner import run_job
from embed_worker.errors import BadJob
from embed_worker.lake.identity import text_key
from embed_worker.lake.store import Store
from tests.kits.attempt.jobs import CountingEngine, loaded, make_job, manifest_of, prove, run_lane, text_of

TEXTS = sorted((f"text {i}" for i in range(40)), key=text_key)


def test_lanes_share_the_checkpoints(lake: str, tmp_path: Path) -> None:
    job = make_job(lake, TEXTS)
    first, second = CountingEngine(job.spec), CountingEngine(job.spec)
    other = threading.Thread(target=run_lane, args=(job, Lane(1, 2, tmp_path), second))
    other.start()
    run_lane(job, Lane(0, 2, tmp_path), first)
    other.join()
    prove(job, TEXTS, tmp_path)
    assert not set(first.seen) & set(second.seen), "no text is embedded by both"
    assert len(manifest_of(job).attempts) == 2


def test_a_fast_lane_takes_what_a_slow_one_has_not_claimed(lake: str, tmp_path: Path) -> None:
    job = make_job(lake, TEXTS)
    begun, goes_on = threading.Event(), threading.Event()

    class Slow(CountingEngine):
        def hook(self, ids: tuple[int, ...], vector: np.ndarray) -> np.ndarray:
            begun.set()
            assert goes_on.wait(60)
            return vector

    slow, fast = Slow(job.spec), CountingEngine(job.spec)
    other = threading.Thread(target=run_lane, args=(job, Lane(0, 3, tmp_path), slow))
    other.start()
    assert begun.wait(60)
    Lane(2, 3, tmp_path).close()
    run_lane(job, Lane(1, 3, tmp_path), fast)
    assert len(Checkpoints(Store(lake), job).committed()) >= 8, "all but what the slow one holds: one, and the next"
    goes_on.set()
    other.join()
    prove(job, TEXTS, tmp_path)


def test_what_a_dead_lane_has_claimed_is_given_back(tmp_path: Path) -> None:
    dead, other = Lane(1, 2, tmp_path), Lane(0, 2, tmp_path)
    take, take_other = next(dead.turns(lambda: True)), next(other.turns(lambda: True))
    assert take(0) and take_other(1) and take(2)
    assert not take_other(0) and not take_other(2) and not take(1)
    dead.free()
    assert take_other(0) and take(2) and not take(1)


def test_the_first_lane_does_what_a_dead_one_left(lake: str, tmp_path: Path) -> None:
    job = make_job(lake, TEXTS)

    class Dying(CountingEngine):
        def hook(self, ids: tuple[int, ...], vector: np.ndarray) -> np.ndarray:
            if text_of(ids) in TEXTS[5]:
                raise RuntimeError("this GPU fell off the bus")
            return vector

    with pytest.raises(RuntimeError, match="fell off"):
        run_lane(job, Lane(1, 2, tmp_path), Dying(job.spec))
    assert len(Checkpoints(Store(lake), job).committed()) == 1
    run_lane(job, Lane(0, 2, tmp_path), CountingEngine(job.spec))
    prove(job, TEXTS, tmp_path)


def test_the_manifest_names_the_gpus_of_all_lanes(lake: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each engine sees those of its CUDA_VISIBLE_DEVICES alone."""
    cuda = SimpleNamespace(is_available=lambda: True, device_count=lambda: 2, get_device_name=lambda _: "NVIDIA L4")
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))  # none in this environment
    job = make_job(lake, TEXTS)
    run_lane(job, Lane(0, 4), CountingEngine(job.spec))
    manifest = manifest_of(job)
    assert (manifest.hardware.gpus, manifest.hardware.engines) == (["NVIDIA L4"] * 8, 4)
    assert (accelerator_of(manifest), manifest.hardware.machine) == ("L4:8", "8× NVIDIA L4")


def test_a_later_lane_never_commits(lake: str, tmp_path: Path) -> None:
    job = make_job(lake, TEXTS)
    assert run_job(job, lambda: loaded(job.spec), threading.Event(), lane=Lane(1, 2, tmp_path)) is False
    assert not Store(lake).exists(job.shard.manifest_path)
    assert Checkpoints(Store(lake), job).committed() == set(range(10))


def test_a_stopped_first_lane_does_not_wait_for_the_others(tmp_path: Path) -> None:
    assert len(list(Lane(0, 2, tmp_path).turns(lambda: True))) == 1


def test_the_first_lane_does_what_a_hung_one_left(lake: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its process lives: nothing says that it will never come to an end."""
    monkeypatch.setattr(lanes, "LOOK_SECONDS", 0.1)
    monkeypatch.setattr(lanes, "STUCK_SECONDS", 1.0)
    job = make_job(lake, TEXTS)
    hangs, goes_on = threading.Event(), threading.Event()

    class Hanging(CountingEngine):
        def hook(self, ids: tuple[int, ...], vector: np.ndarray) -> np.ndarray:
            if not hangs.is_set():
                hangs.set()
                goes_on.wait(60)
            return vector

    other = threading.Thread(target=run_lane, args=(job, Lane(1, 2, tmp_path), Hanging(job.spec)))
    other.start()
    assert hangs.wait(60)
    run_lane(job, Lane(0, 2, tmp_path), CountingEngine(job.spec))
    assert not goes_on.is_set()
    prove(job, TEXTS, tmp_path)
    goes_on.set()
    other.join()
    prove(job, TEXTS, tmp_path)


def test_a_slow_lane_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(lanes, "STUCK_SECONDS", 0.5)
    done: set[int] = set()

    def committed() -> set[int]:
        done.add(len(done))
        if len(done) == 6:
            Lane(1, 2, tmp_path).close()
        return set(done)

    turns = list(Lane(0, 2, tmp_path).turns(lambda: False, committed))
    assert len(turns) == 2 and len(done) >= 6


@pytest.fixture
def crew_of(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[[str], int]]:
    """Runs two lanes whose Python is a shell script; it gets the test's folder as $T."""

    def run(script: str) -> int:
        python = tmp_path / "python"
        python.write_text(f"#!/bin/sh\nT={tmp_path}\n{script}")
        python.chmod(0o755)
        monkeypatch.setattr("sys.executable", str(python))
        return crew.run_lanes(["", ""], ["job.json"])

    handlers = [(number, signal.getsignal(number)) for number in (signal.SIGTERM, signal.SIGINT)]
    yield run
    for number, handler in handlers:
        signal.signal(number, handler)


def test_a_lane_that_hears_no_signal_is_killed(monkeypatch: pytest.MonkeyPatch, crew_of: Callable[[str], int]) -> None:
    monkeypatch.setattr(crew, "GONE_SECONDS", 0.5)
    first = "case $EMBED_LANE in 0/*) while [ ! -e $T/up ]; do sleep 0.1; done; exit 70;; esac\n"
    assert crew_of(f"{first}trap '' TERM; touch $T/up; while :; do sleep 0.1; done\n") == 70


@pytest.mark.parametrize("end", ["exit 74", "kill -SEGV $$"])
def test_a_dead_lane_is_started_once_more(crew_of: Callable[[str], int], tmp_path: Path, end: str) -> None:
    """Its claims are free by then, and when it is gone for good, there is word of it: the first lane waits for that."""
    first = "case $EMBED_LANE in 0/*) while [ ! -e $F/gone.1 ]; do sleep 0.05; done; exit 0;; esac\n"
    second = f"if [ -L $F/5 ]; then exit 70; fi\nln -s 1 $F/5; echo >> $T/starts; {end}\n"
    assert crew_of(f"F=${{EMBED_LANE#*:}}/job-0\n{first}{second}") == 0
    assert (tmp_path / "starts").read_text() == "\n\n"


@pytest.mark.parametrize("code", [65, 69, 70])
def test_a_lane_whose_end_another_start_would_not_better_is_not_started_again(
    crew_of: Callable[[str], int], tmp_path: Path, code: int
) -> None:
    first = "case $EMBED_LANE in 0/*) while [ ! -e $F/gone.1 ]; do sleep 0.05; done; exit 0;; esac\n"
    assert crew_of(f"F=${{EMBED_LANE#*:}}/job-0\n{first}echo >> $T/starts; exit {code}\n") == 0
    assert (tmp_path / "starts").read_text() == "\n"


def test_the_lane_of_a_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(lanes.LANE, raising=False)
    assert lanes_of(2) == [lanes.SINGLE, lanes.SINGLE]
    monkeypatch.setenv(lanes.LANE, f"1/4:{tmp_path}")
    assert lanes_of(2) == [Lane(1, 4, tmp_path / "job-0"), Lane(1, 4, tmp_path / "job-1")]
    assert (tmp_path / "job-1").is_dir()


@pytest.mark.parametrize(
    ("visible", "gpus", "wanted", "size", "groups"),
    [
        (None, 0, None, 1, [""]),
        (None, 0, "2", 1, ["", ""]),
        (None, 3, None, 1, ["0", "1", "2"]),
        (None, 8, None, 2, ["0,1", "2,3", "4,5", "6,7"]),
        (None, 8, "2", 1, ["0", "1"]),
        (None, 3, None, 2, ["0,1"]),
        ("4, 6", 8, None, 1, ["4", "6"]),
        ("", 8, None, 1, [""]),
        ("GPU-1f,GPU-2e", 8, None, 1, ["GPU-1f", "GPU-2e"]),
    ],
)
def test_an_engine_for_each_gpu(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    visible: str | None,
    gpus: int,
    wanted: str | None,
    size: int,
    groups: list[str],
) -> None:
    for name, value in (("CUDA_VISIBLE_DEVICES", visible), (lanes.ENGINES, wanted)):
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)
    monkeypatch.setattr(lanes, "NVIDIA", tmp_path / "gpus")
    if gpus:
        for index in range(gpus):
            (tmp_path / f"gpus/0000:{index:02d}:00.0").mkdir(parents=True)
    assert engine_groups(size) == groups


@pytest.mark.parametrize("wanted", ["0", "-1", "two"])
def test_a_wrong_number_of_engines_is_a_bad_job(monkeypatch: pytest.MonkeyPatch, wanted: str) -> None:
    monkeypatch.setenv(lanes.ENGINES, wanted)
    with pytest.raises(BadJob, match="EMBED_ENGINES"):
        engine_groups()


def test_an_engine_that_spans_more_gpus_than_the_node_has_is_a_bad_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    with pytest.raises(BadJob, match=r"spans 4 GPUs .*, this node has 2.*EMBED_SKY_ACCELERATORS"):
        engine_groups(4)
