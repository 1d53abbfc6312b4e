"""`op.pool`: a run whose pool is full waits before its step, the update job's too."""

import threading
from typing import Any

import pytest

from embed_assets.spec.translation import OpOptions, StepOptions
from tests.kits.graph_bench import SHARDS, GraphBench
from tests.kits.processes import wait_until

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("how", ["embed", "update"])
def test_a_full_pool_holds_the_step_back(lasting: GraphBench, how: str) -> None:
    bench, storage = lasting, lasting.instance.event_log_storage
    bench.more = {"op": OpOptions(steps={"embedding_shards": StepOptions(pool="gpus")})}
    bench.prepare()  # its steps are in no pool
    storage.set_concurrency_slots("gpus", 1)
    assert storage.claim_concurrency_slot("gpus", "another run", "its step").is_claimed
    done: list[Any] = []
    thread = threading.Thread(target=lambda: done.append(getattr(bench, how)()))
    thread.start()

    def log() -> str:
        (run,) = bench.instance.get_runs(limit=1)
        return "\n".join(entry.user_message for entry in bench.instance.all_logs(run.run_id))

    wait_until(lambda: "blocked by limit for pool gpus" in log(), "the step waits for its pool")
    assert not done and bench.instance.get_materialized_partitions(SHARDS) == set()
    storage.free_concurrency_slots_for_run("another run")
    thread.join()
    assert done[0].success and bench.instance.get_materialized_partitions(SHARDS) == set(bench.partitions())
    assert storage.get_concurrency_info("gpus").active_slot_count == 0
