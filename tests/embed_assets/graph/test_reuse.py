"""What is known is not embedded again, and where all is known no job is launched."""

from typing import Any

import pytest

from embed_worker.lake.layout import Partitioning
from embed_worker.lake.manifests import ShardManifest, read_manifest
from embed_worker.lake.store import Store
from tests.kits import pipelines as kit
from tests.kits.compute.in_process import InProcess
from tests.kits.graph_bench import CHECK, SHARDS, GraphBench

pytestmark = pytest.mark.slow
ROWS = kit.texts(300)


@pytest.fixture
def one(bench: GraphBench) -> GraphBench:
    """A dataset of 300 rows in three strides by keys."""
    bench.ingest = {"id": "{key}", "partitioning": "content"}
    kit.write_jsonl(bench.sources["a"], ROWS)
    del bench.sources["b"], bench.strides["b"]
    assert bench.update().success
    return bench


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    names: list[str] = []
    submit = InProcess.submit

    def told(self: InProcess, name: str, job: Any, url: str) -> Any:
        names.append(job.shard.key)
        return submit(self, name, job, url)

    monkeypatch.setattr(InProcess, "submit", told)
    return names


def manifests(bench: GraphBench) -> dict[str, list[ShardManifest]]:
    """By partition, as they came."""
    store, found = Store(str(bench.lake)), dict[str, list[ShardManifest]]()
    for path in sorted(bench.shard_files("_manifest.json"), key=lambda path: path.stat().st_mtime_ns):
        manifest = read_manifest(store, str(path.relative_to(bench.lake)), ShardManifest)
        assert manifest is not None
        found.setdefault(manifest.shard.key, []).append(manifest)
    return found


def test_a_rebase_after_a_delta_launches_nothing(one: GraphBench, launched: list[str]) -> None:
    kit.write_jsonl(
        one.sources["a"], [*ROWS[10:], {"key": "new", "text": "never seen"}, {"key": "k5", "text": ROWS[7]["text"]}]
    )
    assert one.update(rebase="never").success
    assert launched == ["a-delta"]
    (delta,) = manifests(one)["a-delta"]
    assert (delta.rows_in, delta.rows_embedded, delta.rows_reused) == (2, 1, 1)
    run = one.update(rebase="now")
    assert run.success and launched == ["a-delta"], one.log(run)
    assert "hold known texts alone: composed here, without a job" in one.log(run)
    made = [found[-1] for key, found in manifests(one).items() if key != "a-delta"]
    assert sum(manifest.rows_reused for manifest in made) == 292 and not any(m.rows_embedded for m in made)
    assert any(one_.folder == delta.shard.folder for manifest in made for one_ in manifest.reused)
    outcomes = [event.asset_check_evaluation_data for event in one.events(run, CHECK)]
    assert outcomes and all(outcome.passed for outcome in outcomes)


def test_another_number_of_strides_embeds_nothing(one: GraphBench, launched: list[str]) -> None:
    one.strides["a"] = 5
    run = one.update(rebase="now")
    assert run.success and not launched, one.log(run)
    cut = Partitioning("content", 5)
    made = [found[-1] for found in manifests(one).values() if found[-1].shard.partitioning == cut]
    assert len(made) == 5 and sum(manifest.rows_reused for manifest in made) == 300


def test_another_dataset_gives_its_vectors_where_it_is_named(one: GraphBench, launched: list[str]) -> None:
    one.sources["b"] = kit.write_jsonl(one.folder / "b.jsonl", [*ROWS[:40], {"key": "own", "text": "of b alone"}])
    one.strides["b"] = 1
    one.ingest["reuse_from"] = ["a"]
    assert one.update().success
    (made,) = manifests(one)["b-00000"]
    assert (made.rows_embedded, made.rows_reused) == (1, 40) and launched == ["b-00000"]


def test_forced_partitions_are_embedded_whatever_is_known(one: GraphBench, launched: list[str]) -> None:
    one.strides["a"] = 2
    assert one.update(rebase="now").success and not launched
    before = {key: found[-1] for key, found in manifests(one).items()}
    keys = one.strides_of("a")
    assert one.run(SHARDS, keys[0], keys[-1], {"p__embedding_shards": {"config": {"force": True}}}).success
    assert sorted(launched) == keys
    assert all(found[-1].rows_embedded == before[key].rows_in for key, found in manifests(one).items() if key in keys)


def test_what_could_not_be_taken_is_said(one: GraphBench, launched: list[str]) -> None:
    path = one.lake / manifests(one)["a-00001"][-1].shard.folder / "part-00000.parquet"
    path.write_bytes(path.read_bytes()[:-1])
    one.strides["a"] = 1
    run = one.update(rebase="now")
    assert run.success and launched == ["a-00000"], one.log(run)
    [made] = [found[-1] for key, found in manifests(one).items() if found[-1].shard.count == 1 and key != "a-delta"]
    assert 0 < made.rows_embedded < 300 and list(made.unusable) == [str(path.parent.relative_to(one.lake))]
    assert f"a-00000: {made.rows_embedded} rows were embedded, and known vectors of them could not be taken from " in (
        one.log(run)
    )
    record = one.latest(SHARDS, "a-00000").asset_materialization
    assert record is not None and record.metadata["details"].value["not_reused"] == made.unusable
