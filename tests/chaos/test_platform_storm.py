"""Dagster, driver and workers under fire together: killed at each step and at any moment, run again until green.

Every row is there once, its vectors are those of an undisturbed lake, Dagster shows what the lake has, and nothing
is left over.
"""

import os
import random
import signal
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from embed_assets.graph.keys import EMBEDDING_SHARDS, RAW_REVIEWS, STRIDE_PARTITIONS, VECTOR_INDEX
from embed_assets.reading.lake import Lake
from embed_assets.upkeep.verify import verify_lake
from embed_worker.lake.failpoints import PLATFORM, WORKER
from embed_worker.lake.sets import current_set
from tests.kits import pipelines as kit
from tests.kits.chaos.fork_server import fork_server
from tests.kits.chaos.platform_process import GRAPH
from tests.kits.chaos.platform_storm import Proof, Storm, damage_a_shard, shard_table

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("EMBED_CHAOS_KILLS", "6"))
"""Kills at random; `make chaos` asks for hundreds."""
KINDS = ("outliving", "local", "s3", "outliving")
IMPORTED = (
    "s3fs",
    "pandas",
    "alembic.command",
    "dagster._core.storage.sqlite_storage",
    "dagster._core.workspace.context",
)
"""What a Dagster process imports late, and every one of them anew."""
KILLS_A_STORM = 10
STORMS = max(3, KILLS // KILLS_A_STORM)
CHAINS = [
    (
        RAW_REVIEWS,
        [
            "raw.parsed",
            "raw.data",
            "raw.part",
            "raw.written",
            "raw.keys",
            "raw.ready",
            "store.temporary",
            "raw.committed",
            "store.replacing",
            "raw.pointed",
            "raw.based",
        ],
    ),
    (
        STRIDE_PARTITIONS,
        [
            "slice.written",
            "slice.published",
            "slice.committed",
            "strides.cut",
            "strides.ready",
            "store.temporary",
            "strides.committed",
        ],
    ),
    (STRIDE_PARTITIONS, ["strides.slice"]),
    (EMBEDDING_SHARDS, ["store.replacing", "driver.job_file", "driver.submitted", "driver.polled"]),
    (EMBEDDING_SHARDS, ["driver.seen", "record.kept", "record.materialized", "record.checked", "record.set"]),
    (EMBEDDING_SHARDS, ["driver.adopted", "driver.retired"]),
    (VECTOR_INDEX, ["index.batch", "index.created", "index.measured", "index.published"]),
]
"""On one lake each, in an order in which each can be reached after the one before."""
STEPS = [(asset, step) for asset, steps in CHAINS for step in steps]
DELTA_STEPS = ["delta.removed", "delta.ready", "delta.committed", "raw.pointed", "slice.published", "strides.committed"]


def test_no_step_is_left_out() -> None:
    assert set(PLATFORM) <= {step for _, step in STEPS} | set(DELTA_STEPS)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with fork_server("tests.kits.chaos.platform_process", *IMPORTED) as found:
        yield found


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    records = [*kit.texts(32), {"key": "x", "text": ""}, *kit.texts(4, 100)]
    return kit.write_jsonl(tmp_path_factory.mktemp("source") / "a.jsonl", records)


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory, source: Path) -> dict[int, pa.Table]:
    """The shards of a lake that nobody disturbed, by stride."""
    made = kit.Prepared(tmp_path_factory.mktemp("undisturbed") / "lake", str(source), name="a")
    folder = tmp_path_factory.mktemp("fetched")
    return {i: shard_table(made.store, made.job(i).shard.folder, made.embed(i), folder) for i in range(3)}


@pytest.mark.parametrize(("asset", "steps"), CHAINS, ids=[f"{asset}-{steps[0]}" for asset, steps in CHAINS])
def test_killed_at_each_step_of_the_platform(
    asset: str, steps: list[str], address: str, source: Path, reference: dict[int, pa.Table],
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    storm = Storm(tmp_path, str(tmp_path / "lake"), source, address)
    at = GRAPH.index(asset)
    first = 0
    if steps[0] == "driver.adopted":
        storm.until_green()
    for step in steps:
        if step == "driver.retired":
            damage_a_shard(storm.store, random.Random(step))
        worker = (
            "attempt.loaded:1:stop" if step == "driver.submitted" else WORKER[STEPS.index((asset, step)) % len(WORKER)]
        )
        storm.jobs.failpoints.write_text(f"{worker}\n")
        killed = storm.run(graph=GRAPH[first : at + 1], failpoints={asset: step})
        assert killed.code is None, f"{step} is not reached\n{killed.log}"
        first = at
        if step != "driver.submitted":  # the next driver finds that job alive
            storm.wake()
    upto = max(3, at + 1)
    storm.until_green(graph=GRAPH[at:upto])
    Proof(storm, reference, tmp_path).hold(monkeypatch, GRAPH[:upto])


def test_a_delta_is_killed_at_each_step(address: str, source: Path, tmp_path: Path) -> None:
    """One row is gone, one is new: the set has each of the others once, and the base's shards are untouched."""
    mine = tmp_path / "a.jsonl"
    mine.write_bytes(source.read_bytes())
    storm = Storm(tmp_path, str(tmp_path / "lake"), mine, address)
    storm.until_green()
    base = {path: storm.store.read(path) for path, _ in storm.store.walk("embedding_shards") if "manifest" in path}
    lines = mine.read_bytes().splitlines(keepends=True)
    mine.write_bytes(b"".join(lines[:-1]) + b'{"key": "new", "text": "a text that is new"}\n')
    storm.deployment = storm.deployment.model_copy(update={"deltas": True})
    for step in DELTA_STEPS:
        asset = RAW_REVIEWS if step.startswith(("delta", "raw")) else STRIDE_PARTITIONS
        killed = storm.run(graph=GRAPH[: GRAPH.index(asset) + 1], failpoints={asset: step})
        assert killed.code is None, f"{step} is not reached\n{killed.log}"
    storm.until_green()
    assert verify_lake(storm.store).damages == []
    pipeline = storm.deployment.pipeline()
    found = current_set(storm.store, "a", kit.spec().spec_id, pipeline.dataset("a").ingest_id)
    assert found is not None and found.delta is not None
    assert {path: storm.store.read(path) for path in base} == base
    ids = sorted(Lake(storm.store.root).scan(pipeline, "a").collect()["id"])
    assert len(ids) == len(set(ids)) == found.rows


@pytest.mark.parametrize("seed", range(STORMS))
def test_killed_at_random(
    seed: int, request: pytest.FixtureRequest, address: str, source: Path, reference: dict[int, pa.Table],
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    kind, rng = KINDS[seed % len(KINDS)], random.Random(seed)
    lake = str(tmp_path / "lake")
    if kind == "s3":
        lake = request.getfixturevalue("s3_root")
    storm = Storm(tmp_path, lake, source, address, local=kind == "local")
    kills = -(-KILLS // STORMS)
    for _ in range(5 * kills):
        if storm.kills() >= kills:
            break
        fire(storm, rng)
    assert storm.kills(), "nothing was hit"
    storm.until_green()
    Proof(storm, reference, tmp_path).hold(monkeypatch)


def fire(storm: Storm, rng: random.Random) -> None:
    """One run: workers are killed at their steps or at any moment, and so is Dagster, or it is not."""
    points = [f"{rng.choice(WORKER)}:{rng.randint(1, 2)}" for _ in range(rng.randint(0, 2))]
    storm.jobs.failpoints.write_text("".join(f"{point}\n" for point in points))
    asset, step = rng.choice(STEPS)
    armed = {asset: f"{step}:{rng.randint(1, 3)}"} if rng.random() < 0.5 else {}
    wait = rng.choice([0.0, 0.02, 0.1])
    run = storm.start(failpoints=armed, wait=wait, worker=points[0] if points and storm.deployment.local else "")
    while not run.wait(rng.uniform(0.05, 1.5)):
        live = storm.jobs.live()
        victim = rng.choice(["driver", "worker", "nobody"])
        if victim == "driver":
            run.send(signal.SIGKILL)
        elif victim == "worker" and live:
            storm.jobs.child(*rng.choice(live)).send(signal.SIGKILL)
    if rng.random() < 0.3:
        storm.calm()
