"""gc takes what nobody needs, and nothing else."""

import os
import shutil
from pathlib import Path

from embed_assets.upkeep.gc import find_garbage
from embed_assets.upkeep.verify import verify_lake
from embed_worker.lake import layout
from embed_worker.lake.heartbeats import read_progress
from embed_worker.steps.raw import ingest
from tests.kits import pipelines as kit
from tests.kits.lake.progress import grow_old, put_beat
from tests.kits.pipelines import Prepared


def test_gc_keeps_the_latest_snapshot_and_what_live_jobs_need(prepared: Prepared, source: Path, lake: Path) -> None:
    kit.write_jsonl(source, kit.texts(30))
    new = Prepared(lake, str(source))
    new.embed(0)
    for path, _ in prepared.store.walk("progress"):
        grow_old(prepared.store, path, 3600)
    put_beat(prepared.store, prepared.job(2))
    assert not any(prepared.raw.snapshot in item.path for item in find_garbage(prepared.store) if "raw" in item.path)

    prepared.store.delete("progress/d-00002")
    new.store.create(f"{new.job(0).shard.folder}/checkpoints/attempts/a.json", b"{}")
    garbage = [item.path for item in find_garbage(prepared.store)]
    assert prepared.raw.path in garbage
    assert f"{new.job(0).shard.folder}/checkpoints" in garbage
    for path in garbage:
        prepared.store.delete(path)
    assert verify_lake(prepared.store).damages == []
    assert verify_lake(prepared.store).snapshots == 1
    assert not any(prepared.raw.snapshot in str(path) for path in lake.rglob("*.parquet"))
    old = lake / prepared.raw.folder / prepared.raw.parts[0].file.path
    assert old.exists(), "a part that is young may be of an ingest that is at work"
    for path in (lake / prepared.raw.folder / "parts").iterdir():
        os.utime(path, (0, 0))
    for item in find_garbage(prepared.store):
        prepared.store.delete(item.path)
    assert not old.exists()
    assert verify_lake(prepared.store).damages == []


def test_gc_keeps_the_job_file_of_a_job_that_waits_for_a_machine(prepared: Prepared) -> None:
    for stride in (0, 2):  # committed, not committed
        prepared.resource.write_job(prepared.job(stride))
    jobs = [item.path for item in find_garbage(prepared.store) if item.path.startswith("jobs/")]
    assert jobs == [prepared.job(0).path]


def test_gc_keeps_the_last_word_of_a_failed_partition_and_takes_that_of_a_gone_dataset(prepared: Prepared) -> None:
    """The monitor tells from it that the partition failed, and why."""
    beats = {"committed": prepared.job(0), "failed": prepared.job(2)}
    beats["gone"] = beats["failed"].model_copy(
        update={"shard": beats["failed"].shard.model_copy(update={"dataset": "gone"})}
    )
    for name, job in beats.items():
        put_beat(prepared.store, job, name, age=3600)
    prepared.resource.write_job(beats["gone"])
    found = {item.path for item in find_garbage(prepared.store)}
    assert {f"progress/{beats['committed'].shard.key}/committed.json", "progress/gone-00002/gone.json"} <= found
    assert beats["gone"].path in found
    assert not any("failed" in path for path in found)


def test_gc_keeps_the_shards_of_strides_that_a_new_snapshot_has_too(tmp_path: Path, lake: Path) -> None:
    source = kit.write_jsonl(tmp_path / "s.jsonl", kit.texts(20))
    old = Prepared(lake, str(source), partitioning="content", strides=8, id="{key}")
    for stride in range(8):
        old.embed(stride)
    kit.write_jsonl(source, [*kit.texts(20), {"key": "new", "text": "one more"}])
    new = Prepared(lake, str(source), partitioning="content", strides=8, id="{key}")
    same = [s for s in range(8) if old.strides.strides[s].digest == new.strides.strides[s].digest]
    assert len(same) == 7
    for path, _ in old.store.walk("progress"):
        grow_old(old.store, path, 3600)
    for item in find_garbage(old.store):
        old.store.delete(item.path)
    for stride in range(8):
        assert (new.resource.shard(old.job(stride).shard) is not None) is (stride in same)
    assert verify_lake(old.store).damages == []


def test_gc_takes_no_shard_while_the_latest_snapshot_is_not_cut(prepared: Prepared, source: Path) -> None:
    """Which of them are its own is not known yet."""
    kit.write_jsonl(source, kit.texts(30))
    ingest(prepared.store, prepared.dataset)
    assert not any(item.path.startswith("embedding_shards/") for item in find_garbage(prepared.store))


def test_gc_takes_slices_and_claims_that_nobody_lists(prepared: Prepared, lake: Path) -> None:
    slices = f"{prepared.strides.folder}/slices"
    orphans = {f"{slices}/{'0' * 16}.0123456789ab.arrow", f"{slices}/{prepared.strides.slices[0]}.0123456789ab.arrow",
               f"{slices}/{prepared.strides.slices[0]}.claim"}  # fmt: skip
    for path in orphans:
        prepared.store.create(path, b"of a cut that was killed")
    found = {item.path for item in find_garbage(prepared.store) if item.path.startswith("stride_partitions/")}
    assert found == orphans
    (lake / layout.cut_file(prepared.strides.folder, prepared.raw.snapshot)).write_bytes(b"{")
    assert not any(
        "stride_partitions" in item.path or "embedding_shards" in item.path for item in find_garbage(prepared.store)
    )


def test_gc_leaves_a_snapshot_that_is_being_written(prepared: Prepared, lake: Path) -> None:
    for folder in (layout.raw_folder("d", "0123456789abcdef"), prepared.raw.folder):
        written = lake / folder / layout.part_file("0123456789ab")
        written.parent.mkdir(parents=True, exist_ok=True)
        written.write_bytes(b"the first of many")
        assert not any("0123456789ab" in item.path for item in find_garbage(prepared.store))
        os.utime(written, (0, 0))
        assert f"{folder}/{layout.part_file('0123456789ab')}" in {item.path for item in find_garbage(prepared.store)}
        written.unlink()


def test_gc_leaves_a_snapshot_that_no_pointer_names_yet(prepared: Prepared, lake: Path) -> None:
    committed = lake / layout.snapshot_file("d", prepared.raw.ingest_id, "0123456789ab")
    committed.write_bytes((lake / prepared.raw.path).read_bytes())
    assert not any("0123456789ab" in item.path for item in find_garbage(prepared.store))
    os.utime(committed, (0, 0))
    assert [item.path for item in find_garbage(prepared.store) if "0123456789ab" in item.path] == [
        layout.snapshot_file("d", prepared.raw.ingest_id, "0123456789ab")
    ]


def test_gc_keeps_each_of_two_ways_to_read_a_dataset(prepared: Prepared, source: Path, lake: Path) -> None:
    """Two code locations with other filters on one lake."""
    other = Prepared(lake, str(source), where={"n": [1, 2, 3, 4]})
    assert other.raw.snapshot != prepared.raw.snapshot
    assert not any(item.path.startswith("raw_reviews") for item in find_garbage(prepared.store))


def test_gc_finds_files_that_no_manifest_lists(prepared: Prepared, lake: Path) -> None:
    folders = [
        prepared.job(0).shard.folder,
    ]
    orphans = {f"{folder}/part-00000.3f2a91c07be4.parquet" for folder in folders}
    orphans.add(f"{prepared.job(0).shard.folder}/part-00007.parquet")
    uncommitted = f"{prepared.job(2).shard.folder}/part-00000.parquet"
    for path in [*orphans, uncommitted]:
        prepared.store.create(path, b"of an attempt that died")
    prepared.store.create(f"{folders[0]}/notes.txt", b"of a person")
    found = {item.path for item in find_garbage(prepared.store) if not item.path.startswith(("progress/", "jobs/"))}
    assert found == orphans
    (lake / prepared.job(0).shard.manifest_path).write_bytes(b"{")
    found = {item.path for item in find_garbage(prepared.store)}
    assert not any(prepared.job(0).shard.folder in path for path in found), "a damaged manifest condemns nothing"


def test_gc_finds_the_temporaries_of_killed_puts_when_they_are_old(prepared: Prepared, lake: Path) -> None:
    name = f".x.json.{'0123456789abcdef' * 2}.tmp"
    folders = [
        "jobs/d-00002",
        "embedding_spaces",
        prepared.job(0).shard.folder,
        f"{prepared.job(2).shard.folder}/checkpoints",
    ]
    for folder in folders:
        prepared.store.create(f"{folder}/{name}", b"half")
        prepared.store.create(f"{folder}/mine.tmp", b"not ours")
    assert not any(item.path.endswith(".tmp") for item in find_garbage(prepared.store))
    for folder in folders:
        for other in (name, "mine.tmp"):
            os.utime(lake / folder / other, (0, 0))
    assert {item.path for item in find_garbage(prepared.store) if item.path.endswith(".tmp")} == {
        f"{folder}/{name}" for folder in folders
    }
    scratch = lake / ".tmp/embed-dead"
    scratch.mkdir(parents=True)
    (scratch / name).touch()
    for path in (scratch / name, scratch):
        os.utime(path, (0, 0))
    found = [item.path for item in find_garbage(prepared.store)]
    assert ".tmp/embed-dead" in found and f".tmp/embed-dead/{name}" not in found, "once is enough"


def test_what_a_killed_put_was_writing_is_no_damage_and_no_job_or_heartbeat(prepared: Prepared, lake: Path) -> None:
    prepared.resource.write_job(prepared.job(2))
    job, beat = lake / prepared.job(2).path, lake / put_beat(prepared.store, prepared.job(2))
    before = [item.path for item in find_garbage(prepared.store)], list(read_progress(prepared.store))
    for path in (job, beat):
        shutil.copy(path, path.parent / f".{path.name}.{'0123456789abcdef' * 2}.tmp")
    assert verify_lake(prepared.store).damages == []
    assert ([item.path for item in find_garbage(prepared.store)], list(read_progress(prepared.store))) == before
