"""The same files, the same state: `status` and the monitor tell each partition alike, whatever lies in the lake."""

import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embed_assets.monitor.lake import ReadOnlyLake
from embed_assets.monitor.states import State
from embed_assets.monitor.watch import Watch
from embed_assets.spec import EmbeddingPipeline
from embed_assets.upkeep.status import pipeline_status
from embed_worker.lake.store import Store
from tests.kits import pipelines as kit
from tests.kits.monitor_lake import MODEL, FakeLake, iso

AGES = [0, 1, 30, 55, 65, 110, 130, 600, 890, 910, 5000, 100_000]
"""Seconds, none so near to a bound that the time between two looks could matter."""
PHASES = ["starting", "loading model", "embedding", "committing", "committed", "stopped", "juggling"]

beats = st.fixed_dictionaries(
    {
        "age": st.sampled_from(AGES),
        "phase": st.sampled_from(PHASES),
        "every_seconds": st.sampled_from([5.0, 30.0, None]),
        "lane": st.sampled_from([None, "1 of 2", "2 of 2"]),
        "ending": st.sampled_from([None, "preempted", "failed", "bad_job"]),
        "seconds": st.sampled_from([0.0, 40.0, 4000.0]),
        "clock": st.sampled_from([-7200.0, 0.0, 7200.0]),
    }
)
partitions = st.fixed_dictionaries(
    {
        "manifest": st.sampled_from(["none", "none", "none", "sound", "damaged"]),
        "beats": st.lists(beats, max_size=3),
        "given_up": st.none() | st.sampled_from(AGES),
        "submitted": st.none() | st.sampled_from(AGES),
    }
)


def write(lake: FakeLake, stride: int, now: float, what: dict[str, Any]) -> None:
    for number, beat in enumerate(what["beats"]):
        clock = beat.pop("clock")
        lake.beat(stride, now, f"a{number}", at=iso(now - beat["age"] + clock), **beat)
    if what["given_up"] is not None:
        lake.give_up(stride, now - what["given_up"])
    if what["submitted"] is not None:
        lake.put(f"jobs/{lake.key(stride)}/f.json", {}, written=now - what["submitted"])
    if what["manifest"] != "none":
        lake.shard(stride, now)
    if what["manifest"] == "damaged":
        path = lake.root / lake.shard_path(stride)
        path.write_bytes(path.read_bytes()[:-9])


def pipeline_of_four() -> EmbeddingPipeline:
    return kit.pipeline([kit.dataset("none.jsonl", name="books", strides=4, partitioning="stride")], embedding=MODEL)


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(st.lists(partitions, min_size=4, max_size=4))
def test_status_and_monitor_tell_the_same_states(
    tmp_path_factory: pytest.TempPathFactory, made: list[dict[str, Any]]
) -> None:
    pipeline = pipeline_of_four()
    root = tmp_path_factory.mktemp("lake")
    try:
        lake = FakeLake(root, 4, ingest_id=pipeline.datasets[0].ingest_id)
        now = time.time()
        for stride, what in enumerate(made):
            write(lake, stride, now, what)
        [status] = pipeline_status(Store(str(root)), pipeline)
        shown = look(root, pipeline)
        assert shown == {key: (state, status.reasons.get(key)) for key, state in status.partitions.items()}
    finally:
        shutil.rmtree(root)


def look(root: Path, pipeline: EmbeddingPipeline) -> dict[str, tuple[State, str | None]]:
    """Partition → what the monitor's page shows. The text of damage stands elsewhere in `status`."""
    watch = Watch(ReadOnlyLake(str(root)))
    watch.look()
    return {
        one.key: (one.state, None if one.state is State.DAMAGED else one.error)
        for one in watch.all_partitions()
        if pipeline.embedding.spec_id in one.run or one.run.split("/")[1] == "none-yet"
    }
