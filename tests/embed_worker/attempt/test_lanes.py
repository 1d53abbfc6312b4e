"""Several engines on one partition: shares, a lane that dies, a node's GPUs."""

import os
import signal
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from embed_assets.estimate.speed import accelerator_of
from embed_worker.attempt import lanes
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
    read, write = os.pipe()
    first, second = CountingEngine(job.spec), CountingEngine(job.spec)
    other = threading.Thread(target=run_lane, args=(job, Lane(1, 2, write), second))
    other.start()
    run_lane(job, Lane(0, 2, read), first)
    other.join()
    prove(job, TEXTS, tmp_path)
    assert not set(first.seen) & set(second.seen), "no text is embedded by both"
    assert len(second.seen) > 10 and len(manifest_of(job).attempts) == 2


def test_the_first_lane_does_what_a_dead_one_left(lake: str, tmp_path: Path) -> None:
    job = make_job(lake, TEXTS)
    read, write = os.pipe()

    class Dying(CountingEngine):
        def hook(self, ids: tuple[int, ...], vector: np.ndarray) -> np.ndarray:
            if text_of(ids) in TEXTS[13]:
                raise RuntimeError("this GPU fell off the bus")
            return vector

    with pytest.raises(RuntimeError, match="fell off"):
        run_lane(job, Lane(1, 2, write), Dying(job.spec))
    assert Checkpoints(Store(lake), job).committed() == {1}
    run_lane(job, Lane(0, 2, read), CountingEngine(job.spec))
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


def test_a_later_lane_never_commits(lake: str) -> None:
    job = make_job(lake, TEXTS)
    assert run_job(job, lambda: loaded(job.spec), threading.Event(), lane=Lane(1, 2)) is False
    assert not Store(lake).exists(job.shard.manifest_path)
    assert Checkpoints(Store(lake), job).committed() == {1, 3, 5, 7, 9}


def test_a_stopped_first_lane_does_not_wait_for_the_others(lake: str) -> None:
    read, write = os.pipe()
    turns = list(Lane(0, 2, read).turns(lambda: True))
    assert len(turns) == 1
    os.close(read)
    os.close(write)


def test_the_first_lane_does_what_a_hung_one_left(lake: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its process lives and holds the pipe open: nothing says that it will never come to an end."""
    monkeypatch.setattr(lanes, "LOOK_SECONDS", 0.1)
    monkeypatch.setattr(lanes, "STUCK_SECONDS", 1.0)
    job = make_job(lake, TEXTS)
    read, write = os.pipe()
    hangs, goes_on = threading.Event(), threading.Event()

    class Hanging(CountingEngine):
        def hook(self, ids: tuple[int, ...], vector: np.ndarray) -> np.ndarray:
            if text_of(ids) in TEXTS[13]:
                hangs.set()
                goes_on.wait(60)
            return vector

    other = threading.Thread(target=run_lane, args=(job, Lane(1, 2, write), Hanging(job.spec)))
    other.start()
    assert hangs.wait(60)
    run_lane(job, Lane(0, 2, read), CountingEngine(job.spec))
    assert not goes_on.is_set()
    prove(job, TEXTS, tmp_path)
    goes_on.set()
    other.join()
    prove(job, TEXTS, tmp_path)


def test_a_slow_lane_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(lanes, "STUCK_SECONDS", 0.5)
    read, write = os.pipe()
    done: set[int] = set()

    def committed() -> set[int]:
        done.add(len(done))
        if len(done) == 6:
            os.close(write)
        return set(done)

    turns = list(Lane(0, 2, read).turns(lambda: False, committed))
    assert len(turns) == 2 and len(done) == 6
    os.close(read)


def test_a_lane_that_hears_no_signal_is_killed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(lanes, "GONE_SECONDS", 0.5)
    python = tmp_path / "python"
    python.write_text(
        f"#!/bin/sh\ncase $EMBED_LANE in 0/*) while [ ! -e {tmp_path}/up ]; do sleep 0.1; done; exit 7;; esac\n"
        f"trap '' TERM; touch {tmp_path}/up; while :; do sleep 0.1; done\n"
    )
    python.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(python))
    handlers = [(number, signal.getsignal(number)) for number in (signal.SIGTERM, signal.SIGINT)]
    try:
        assert lanes.run_lanes(["", ""], ["job.json"]) == 7
    finally:
        for number, handler in handlers:
            signal.signal(number, handler)


def test_the_lane_of_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(lanes.LANE, raising=False)
    assert lanes_of(2) == [lanes.SINGLE, lanes.SINGLE]
    ends = os.pipe()
    monkeypatch.setenv(lanes.LANE, f"1/4:{ends[0]},{ends[1]}")
    assert lanes_of(2) == [Lane(1, 4, ends[0]), Lane(1, 4, ends[1])]
    assert not any(os.get_inheritable(end) for end in ends)
    for end in ends:
        os.close(end)


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
