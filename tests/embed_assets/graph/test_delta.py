"""`{dataset}-delta` through the assets: what changed is made, the base's partitions stay as they are."""

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from embed_assets.reading.lake import Lake
from embed_assets.upkeep.gc import find_garbage, remove
from embed_assets.upkeep.verify import verify_lake
from embed_worker.lake.errors import NotReady
from embed_worker.lake.sets import SetManifest, current_set
from tests.kits import pipelines as kit
from tests.kits.graph_bench import INDEX, RAW, SET, SHARDS, STRIDES, GraphBench

pytestmark = pytest.mark.slow
ROWS = kit.texts(400)


@pytest.fixture
def one(bench: GraphBench) -> GraphBench:
    """A dataset of 400 rows with ids, in three strides."""
    bench.ingest = {"id": "{key}"}
    write(bench, ROWS)
    del bench.sources["b"], bench.strides["b"]
    assert bench.update().success
    return bench


def write(bench: GraphBench, rows: list[dict[str, Any]]) -> Path:
    return kit.write_jsonl(bench.sources["a"], [{**row, "key": row.get("key", f"k{row['text']}")} for row in rows])


def published(bench: GraphBench) -> SetManifest:
    dataset = bench.dataset("a")
    found = current_set(Lake(str(bench.lake)).store, "a", kit.spec().spec_id, dataset.ingest_id)
    assert found is not None
    return found


def vectors(bench: GraphBench) -> dict[str, list[float]]:
    """Id → vector, of the set."""
    pipeline = kit.pipeline([bench.dataset("a")])
    frame = Lake(str(bench.lake)).scan(pipeline, "a").collect()
    assert frame["id"].n_unique() == frame.height
    return dict(zip(frame["id"].to_list(), frame["embedding"].to_list(), strict=True))


def test_a_delta_goes_through_all_assets_and_the_base_stays(one: GraphBench) -> None:
    base = {key: one.latest(SHARDS, key).storage_id for key in one.partitions("a")[:-1]}
    raw = one.latest(RAW, "a").storage_id
    before = vectors(one)
    rows = [*ROWS[5:], {"text": "new one"}, {"text": "new two"}]
    rows[0] = {**rows[0], "text": "edited"}
    write(one, rows)
    run = one.run(RAW, "a-delta")
    assert run.success
    (made,) = one.made(run).values()
    assert {key: made[key] for key in ("rows_added", "rows_removed", "new", "changed", "removed", "unchanged")} == {
        "rows_added": 3, "rows_removed": 6, "new": 2, "changed": 1, "removed": 5, "unchanged": 394,
    }  # fmt: skip
    for key, partition in ((STRIDES, "a-delta"), (SHARDS, "a-delta")):
        assert one.run(key, partition).success
    found = published(one)
    assert (found.rows, found.delta is not None) == (397, True)
    assert one.run(INDEX, "a").success
    after = vectors(one)
    assert len(after) == 397 and set(after) - set(before) == {"knew one", "knew two"}
    same = set(after) & set(before) - {rows[0]["key"]}
    assert all(after[id_] == before[id_] for id_ in same)
    assert after[rows[0]["key"]] != before[rows[0]["key"]]
    assert {key: one.latest(SHARDS, key).storage_id for key in base} == base
    assert one.latest(RAW, "a").storage_id == raw
    assert one.stale(SHARDS, one.partitions("a")) == {} == one.stale(RAW, ["a"])
    assert one.stale(SET, ["a"]) == {} == one.stale(INDEX, ["a"])


def test_the_update_takes_a_delta_in_one_run(one: GraphBench) -> None:
    write(one, [*ROWS[1:], {"text": "another"}])
    run = one.update()
    assert run.success
    log = one.log(run)
    assert "due: 1 of 4 partitions" in log
    assert set(vectors(one)) == {row["key"] for row in ROWS[1:]} | {"kanother"}
    again = one.update()
    assert again.success and "due: 0 of 4 partitions" in one.log(again)


def test_a_delta_back_to_the_base_is_empty(one: GraphBench) -> None:
    write(one, [*ROWS, {"text": "another"}])
    assert one.update().success
    write(one, ROWS)
    run = one.update()
    assert run.success
    assert published(one).rows == 400 and len(vectors(one)) == 400
    record = one.latest(RAW, "a-delta").asset_materialization
    assert record is not None and record.tags is not None and record.tags["dagster/data_version"] == "empty"


def test_an_empty_delta_makes_no_job(one: GraphBench) -> None:
    jobs = sorted(one.lake.glob("jobs/**/*.json"))
    for key in (RAW, STRIDES, SHARDS):
        run = one.run(key, "a-delta")
        assert run.success, one.log(run)
    assert sorted(one.lake.glob("jobs/**/*.json")) == jobs
    assert published(one).delta is None


def test_a_delta_that_outgrows_its_base_becomes_it(one: GraphBench) -> None:
    base = published(one).snapshot
    write(one, [*ROWS, *({"text": f"more {i}"} for i in range(30))])
    run = one.update()
    assert run.success and "more than rebase_above 5%" in one.log(run)
    found = published(one)
    assert found.snapshot != base and found.delta is None and found.rows == 430
    write(one, [*ROWS, *({"text": f"more {i}"} for i in range(80))])
    assert one.update(rebase="never").success
    assert published(one).snapshot == found.snapshot and len(vectors(one)) == 480
    assert one.update(rebase="now").success
    assert published(one).delta is None and len(vectors(one)) == 480


def test_a_delta_of_rows_that_are_gone_needs_no_shard(one: GraphBench) -> None:
    write(one, ROWS[:-3])
    assert one.update().success
    found = published(one)
    assert found.rows == 397 and found.delta is not None and found.delta.shard is None
    removed = pq.read_table(one.lake / f"raw_reviews/a/{found.ingest_id}" / found.delta.removed.path)
    assert removed.num_rows == 3 and len(vectors(one)) == 397


def test_an_empty_export_stops_before_it_is_taken(one: GraphBench) -> None:
    write(one, ROWS[:100])
    failure = one.failure(one.update())
    assert "loses 300 of 400 rows (75.0%), more than max_removed 20%" in failure.description
    assert published(one).rows == 400
    assert not one.run(RAW, "a").success
    assert not one.run(RAW, "a-delta").success
    assert one.run(RAW, "a-delta", config={"p__raw_reviews": {"config": {"confirm": True}}}).success
    assert one.update(confirm=True).success
    assert published(one).rows == 100


def test_a_first_delta_takes_the_base(bench: GraphBench) -> None:
    run = bench.run(RAW, "a-delta")
    assert run.success
    assert bench.made(run)["a-delta"]["rows_added"] == 0
    assert bench.run(STRIDES, "a-00000", "a-00002").success and bench.run(STRIDES, "a-delta").success


def test_an_earlier_set_is_read_while_gc_keeps_it(one: GraphBench) -> None:
    first, pipeline, lake = published(one), kit.pipeline([one.dataset("a")]), Lake(str(one.lake))
    whole = vectors(one)
    for day in range(3):
        write(one, [*ROWS[day + 1 :], {"text": f"of day {day}", "key": f"day-{day}"}])
        assert one.update().success
        remove(lake.store, find_garbage(lake.store, {"a": 2}))
        assert verify_lake(lake.store).damages == []
        assert len(vectors(one)) == 400 - day
        if day == 0:
            before = lake.scan(pipeline, "a", snapshot=first.digest).collect()
            assert set(before["id"]) == set(whole)
            assert lake.scan(pipeline, "a", snapshot=first.latest).collect().equals(before)
    with pytest.raises(NotReady, match=r"no set of snapshot .* of a is in .*keep_sets"):
        lake.scan(pipeline, "a", snapshot=first.digest)
    assert one.update(rebase="now").success
    remove(lake.store, find_garbage(lake.store))
    assert verify_lake(lake.store).damages == [] and len(vectors(one)) == 398
    assert not list(one.lake.glob("raw_reviews/a/*/deltas/*.json")) or all_fresh(one)


def all_fresh(bench: GraphBench) -> bool:
    """Deltas that nobody names are left alone for a day."""
    return find_garbage(Lake(str(bench.lake)).store) == []


def test_damage_of_a_delta_is_found_and_mended(one: GraphBench) -> None:
    write(one, [*ROWS[1:], {"text": "another", "key": "new"}])
    assert one.update().success
    store = Lake(str(one.lake)).store
    for pattern in (
        "raw_reviews/a/*/deltas/*.json",
        "raw_reviews/a/*/deltas/*.parquet",
        "stride_partitions/a/*/delta/*.json",
    ):
        (victim,) = one.lake.glob(pattern)
        content = victim.read_bytes()
        victim.unlink()
        victim.write_bytes(content[:-9] + b"123456789")
        told = "\n".join(f"{found.where}: {found.what}" for found in verify_lake(store).damages)
        assert str(victim.relative_to(one.lake)) in told and "materialize" in told
        asset = STRIDES if "stride_partitions" in pattern else RAW
        assert one.run(asset, "a-delta").success
        assert verify_lake(store).damages == [], pattern
        victim.write_bytes(content)
