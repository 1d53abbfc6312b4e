"""`make demo` in miniature, with the real vLLM: whole, again, and with processes killed in the middle."""

import json
import os
import signal
from collections.abc import Callable

import pytest

from embed_assets.upkeep.verify import verify_lake
from embed_worker.lake.store import Store
from tests.kits.e2e.demo_copy import DemoCopy, processes_of
from tests.kits.processes import wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.vllm]


def test_demo_runs_whole_and_the_second_time_adopts_everything(deploy: Callable[[int], DemoCopy]) -> None:
    demo = deploy(150)
    output = demo.run("demo")
    assert "48 of 48" in output  # six checks on each of six shards, and of two deltas that add nothing
    assert "in critic_reviews" in output and "Done in" in output
    manifests = demo.manifests()
    assert len(manifests) == 6
    report = json.loads(demo.run("verify", "--json"))
    assert report["damages"] == [] and report["shards"] == 6 and report["rows"] == 300
    status = json.loads(demo.run("status", "--json"))
    assert {state for one in status for state in one["partitions"].values()} == {"committed"}

    again = demo.run("demo")
    assert demo.manifests() == manifests
    assert again.count("48 of 48") == 1

    found = demo.run("search", "an awful film, a waste of time", "--dataset", "critic_reviews", "-n", "5")
    assert found.count("│ 0.") == 5

    victim = next(demo.lake.glob("embedding_shards/critic_reviews/*/*/00001/*/part-00000.parquet"))
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 1
    victim.write_bytes(data)
    damaged = demo.run("verify", code=1)
    assert "critic_reviews" in damaged and "part-00000.parquet" in damaged
    demo.run("demo")
    assert json.loads(demo.run("verify", "--json"))["damages"] == []
    changed = {path for path, data in demo.manifests().items() if manifests.get(path) != data}
    assert len(changed) == 1 and "critic_reviews" in changed.pop()


def test_killed_worker_and_killed_dagster_lose_and_double_nothing(deploy: Callable[[int], DemoCopy]) -> None:
    demo = deploy(1000)
    first = demo.start("demo")
    wait_until(lambda: demo.checkpoints() > 2, "checkpoints of the first worker")
    worker = processes_of(demo, "embed_worker")[0]
    os.kill(worker, signal.SIGKILL)
    wait_until(lambda: processes_of(demo, "embed_worker") not in ([], [worker]), "a new worker")
    done = len(demo.manifests())
    wait_until(lambda: len(demo.manifests()) > done and demo.checkpoints() > 0, "commits of the second worker")
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    wait_until(lambda: not processes_of(demo, "embed_worker"), "the orphaned worker's end")
    kept = demo.manifests()
    assert len(kept) < 6, "the demo was over before it was killed"

    demo.run("demo")
    manifests = demo.manifests()
    assert {path: manifests[path] for path in kept} == kept
    report = verify_lake(Store(str(demo.lake)))
    raw = [json.loads(path.read_bytes()) for path in demo.lake.glob("raw_reviews/*/*/snapshots/*.json")]
    assert sum(one["records"] for one in raw) == 2000
    assert report.damages == [] and report.shards == 6 and report.rows == sum(one["rows"] for one in raw)
    attempts = [len(json.loads(data)["attempts"]) for data in manifests.values()]
    assert max(attempts) > 1
