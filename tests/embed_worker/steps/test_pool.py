"""Ranges that are read side by side: who is killed leaves nothing behind but parts, which the next ingest takes."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from embed_worker.lake.errors import StoreUnavailable
from embed_worker.lake.store import Store
from embed_worker.steps import pool
from embed_worker.steps.raw import ingest
from tests.kits import pipelines as kit
from tests.kits.processes import alive, wait_until

pytestmark = pytest.mark.slow

RANGE = 200_000
PROGRAM = """
import os, sys
from embed_assets.spec import DatasetSpec
from embed_worker.lake.store import Store
from embed_worker.steps import pool, ranges
from embed_worker.steps.raw import ingest
pool.WORTH_BYTES, ranges.RANGE_BYTES = 1, int(sys.argv[3])
os.sched_getaffinity = lambda _: {0, 1}
ingest(Store(sys.argv[1]), DatasetSpec(name="d", source=sys.argv[2], text="{text}", id="{key}", strides=3, max_rejects=1))
"""


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return kit.write_jsonl(tmp_path / "s.jsonl", ({"key": f"k{i}", "text": f"text {i} " * 20} for i in range(60_000)))


def started(lake: Path, source: Path) -> "subprocess.Popen[bytes]":
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, str(lake), str(source), str(RANGE)])
    wait_until(lambda: len(list(lake.rglob("parts/*.json"))) > 4, "parts of the workers")
    return process


def whole_again(lake: Path, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("embed_worker.steps.ranges.RANGE_BYTES", RANGE)
    before = {path: path.stat().st_mtime_ns for path in lake.rglob("parts/*.json")}
    made = ingest(Store(str(lake)), kit.dataset(str(source), id="{key}")).manifest
    assert (made.rows, made.rejects_by_reason) == (60_000, {})
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_workers_end_with_an_ingest_that_is_killed(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = started(tmp_path / "lake", source)
    workers = children(process.pid)
    assert len(workers) >= 2
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait_until(lambda: not any(map(alive, workers)), "the end of the workers")
    whole_again(tmp_path / "lake", source, monkeypatch)


def test_a_worker_that_is_killed_stops_the_ingest_with_one_sentence(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = tmp_path / "lake"
    monkeypatch.setattr(pool, "WORTH_BYTES", 1)
    monkeypatch.setattr("embed_worker.steps.ranges.RANGE_BYTES", RANGE)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    told = []

    def tell(_: object) -> None:
        told.append(1)
        if len(told) == 4:
            for worker in children(os.getpid()):
                if b"spawn_main" in Path(f"/proc/{worker}/cmdline").read_bytes():
                    os.kill(worker, signal.SIGKILL)

    with pytest.raises(StoreUnavailable, match="was killed, as by lack of memory"):
        ingest(Store(str(lake)), kit.dataset(str(source), id="{key}"), tell)
    monkeypatch.undo()
    whole_again(lake, source, monkeypatch)
