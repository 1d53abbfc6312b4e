"""verify, status, gc and search over small lakes; the CLI's exit codes and messages."""

import json
import os
import random
import shutil
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from embed_assets.cli import app
from embed_assets.index.search import find_table, search_table
from embed_assets.index.table import ShardInput, build_table, open_table
from embed_assets.settings import Settings
from embed_assets.upkeep.gc import find_garbage
from embed_assets.upkeep.verify import verify_lake
from embed_worker.engine.loading import load_model
from embed_worker.lake import layout
from embed_worker.lake.files import FileRef
from embed_worker.lake.heartbeats import read_progress
from embed_worker.lake.seal import sealed, unsealed
from embed_worker.lake.store import Store
from tests.kits import pipelines as kit
from tests.kits.lake.progress import grow_old, put_beat
from tests.kits.pipelines import Prepared


@pytest.fixture
def prepared(lake: Path, source: Path) -> Prepared:
    """A lake with two of three shards committed."""
    made = Prepared(lake, str(source))
    made.embed(0)
    made.embed(1)
    return made


@pytest.fixture
def cli(prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    path = tmp_path / "p.yaml"
    path.write_text(yaml.safe_dump(prepared.pipeline.model_dump(mode="json")))
    monkeypatch.setenv("EMBED_PIPELINES", str(path))
    monkeypatch.setenv("EMBED_LAKE", prepared.store.root)
    monkeypatch.setenv("COLUMNS", "200")
    return CliRunner()


def index(prepared: Prepared) -> None:
    prepared.embed(2)
    shards = []
    for stride in range(3):
        job = prepared.job(stride)
        manifest = prepared.resource.shard(job.shard)
        assert manifest is not None
        folder = layout.strides_folder(prepared.dataset.name, prepared.partitioning)
        shards.append(ShardInput(manifest, folder, manifest.input.files))
    build_table(prepared.resource, prepared.pipeline.embedding.spec_id, "d", shards)


def test_an_index_holds_the_files_of_one_shard_at_a_time(prepared: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    """From an object store they are copied to this machine, whose disk a whole dataset may fill."""
    prepared.embed(2)
    held = []

    def fetch(store: Store, folder: str, file: FileRef, target: Path) -> Path:
        copy = target / f"{len(held)}.parquet"
        shutil.copy(store.path(f"{folder}/{file.path}"), copy)
        held.append(sum(1 for path in Path(store.path(".tmp")).rglob("*.parquet")))
        return copy

    monkeypatch.setattr("embed_assets.index.table.files.fetch", fetch)
    index(prepared)
    assert len(held) == 6 and max(held) == 2
    table = open_table(prepared.resource, prepared.pipeline.embedding.spec_id, "d")
    assert table.count_rows() == prepared.raw.rows
    assert prepared.store.list(".tmp") == []


def test_a_sound_lake_is_sound_and_verify_writes_nothing(prepared: Prepared) -> None:
    before = sorted(prepared.store.walk(""))
    report = verify_lake(prepared.store)
    assert report.damages == []
    assert (report.snapshots, report.partitionings, report.shards, report.unfinished) == (1, 1, 2, 0)
    assert report.rows == len(prepared.expected(0)) + len(prepared.expected(1))
    assert sorted(prepared.store.walk("")) == before


@pytest.mark.parametrize("seed", range(25))
def test_every_damage_of_a_committed_file_is_found_and_named(lake: Path, source: Path, seed: int) -> None:
    source.write_bytes(source.read_bytes() + b'{"text": ""}\n')  # so that there are rejects too
    made = Prepared(lake, str(source))
    made.embed(0)
    rng = random.Random(seed)
    victims = [p for p in sorted(lake.rglob("*")) if p.is_file() and ".tmp" not in p.parts and p.suffix == ".parquet"]
    victim = victims[seed % len(victims)]
    data = bytearray(victim.read_bytes())
    match seed % 4:
        case 0:
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        case 1:
            del data[rng.randrange(len(data)) :]
        case 2:
            data = bytearray(rng.choice([p for p in victims if p != victim]).read_bytes())
        case 3:
            data.extend(b"\0")
    victim.write_bytes(data) if seed % 5 else victim.unlink()
    report = verify_lake(made.store)
    assert any(victim.name in damage.what for damage in report.damages), report.damages


def test_damaged_manifests_and_pointers_are_found(prepared: Prepared, lake: Path) -> None:
    raw = prepared.raw
    cases = {
        layout.raw_latest("d"): b'{"snapshot": "000000000000"}',
        f"{layout.raw_folder('d', raw.snapshot)}/_manifest.json": b"{",
        f"{prepared.job(0).shard.folder}/_manifest.json": b'{"format": 1}',
    }
    for path, data in cases.items():
        target = lake / path
        kept = target.read_bytes()
        target.write_bytes(data)
        assert any(path in damage.where for damage in verify_lake(prepared.store).damages), path
        target.write_bytes(kept)
    assert verify_lake(prepared.store).damages == []


def test_a_shard_under_a_foreign_name_is_found(prepared: Prepared, lake: Path) -> None:
    shutil.copytree(lake / prepared.job(0).shard.folder, lake / prepared.job(2).shard.folder)
    assert any("not here" in damage.what for damage in verify_lake(prepared.store).damages)


def test_verify_finds_another_embedding_space(prepared: Prepared, lake: Path) -> None:
    path = lake / prepared.job(1).shard.manifest_path
    manifest = unsealed(prepared.job(1).shard.manifest_path, path.read_bytes())
    other = load_model(kit.spec(pooling="last"))
    manifest["canaries"] = other.canaries.model_dump(mode="json")
    path.write_bytes(sealed(prepared.job(1).shard.manifest_path, manifest))
    found = verify_lake(prepared.store).damages
    assert [damage.where for damage in found] == [prepared.job(1).shard.folder]
    assert "embedding space" in found[0].what


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
    assert layout.raw_folder("d", prepared.raw.snapshot) in garbage
    assert f"{new.job(0).shard.folder}/checkpoints" in garbage
    for path in garbage:
        prepared.store.delete(path)
    assert verify_lake(prepared.store).damages == []
    assert verify_lake(prepared.store).snapshots == 1
    assert not any(prepared.raw.snapshot in str(path) for path in lake.rglob("*.parquet"))


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


def test_gc_finds_what_an_interrupted_gc_left_of_an_old_snapshot(prepared: Prepared, lake: Path) -> None:
    """Its raw folder went first; what was made from it names it still."""
    kept = {path for path, _ in prepared.store.walk("")}
    for asset in ("stride_partitions/d", f"embedding_shards/d/{prepared.pipeline.embedding.spec_id}"):
        left = lake / asset / prepared.partitioning.name.replace(prepared.raw.snapshot, "0123456789ab")
        shutil.copytree(lake / asset / prepared.partitioning.name, left)
    for item in find_garbage(prepared.store):
        prepared.store.delete(item.path)
    left_over = {path for path, _ in prepared.store.walk("")}
    assert left_over <= kept and not any("0123456789ab" in path for path in left_over)
    assert verify_lake(prepared.store).damages == []


def test_gc_leaves_a_snapshot_that_is_being_written(prepared: Prepared, lake: Path) -> None:
    written = lake / layout.raw_folder("d", "0123456789ab") / "part-00000.parquet"
    written.parent.mkdir()
    written.write_bytes(b"the first of many")
    assert not any("0123456789ab" in item.path for item in find_garbage(prepared.store))
    os.utime(written, (0, 0))
    assert layout.raw_folder("d", "0123456789ab") in {item.path for item in find_garbage(prepared.store)}


def test_gc_finds_files_that_no_manifest_lists(prepared: Prepared, lake: Path) -> None:
    folders = [
        layout.raw_folder("d", prepared.raw.snapshot),
        f"{layout.strides_folder('d', prepared.partitioning)}/00001",
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


def test_a_table_without_its_index_gets_it(prepared: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its process was killed between the two."""
    index(prepared)
    spec_id = prepared.pipeline.embedding.spec_id
    table = open_table(prepared.resource, spec_id, "d")
    assert table.list_indices() == []
    monkeypatch.setattr("embed_assets.index.table.ANN_ROWS", 1)
    index(prepared)
    table = open_table(prepared.resource, spec_id, "d")
    assert [str(found.index_type) for found in table.list_indices()] == ["IvfHnswSq"]
    assert table.count_rows() == prepared.raw.rows


def test_what_a_killed_put_was_writing_is_no_damage_and_no_job_or_heartbeat(prepared: Prepared, lake: Path) -> None:
    prepared.resource.write_job(prepared.job(2))
    job, beat = lake / prepared.job(2).path, lake / put_beat(prepared.store, prepared.job(2))
    before = [item.path for item in find_garbage(prepared.store)], list(read_progress(prepared.store))
    for path in (job, beat):
        shutil.copy(path, path.parent / f".{path.name}.{'0123456789abcdef' * 2}.tmp")
    assert verify_lake(prepared.store).damages == []
    assert ([item.path for item in find_garbage(prepared.store)], list(read_progress(prepared.store))) == before


def test_search_finds_the_very_text(prepared: Prepared) -> None:
    index(prepared)
    found = find_table(prepared.resource, [prepared.pipeline], None)
    model = load_model(found.spec)
    text = kit.texts(20)[7]["text"]
    hits = search_table(found, model.embed_texts([text], "")[0].tolist(), 3)
    assert hits[0].row_id == 7 and hits[0].score == pytest.approx(1, abs=1e-5)
    assert hits[0].passage.startswith("text number 7")
    assert len({hit.row_id for hit in hits}) == 3


def test_search_says_what_there_is(prepared: Prepared) -> None:
    with pytest.raises(ValueError, match="materialize it first"):
        find_table(prepared.resource, [prepared.pipeline], "d")
    with pytest.raises(ValueError, match="there are d"):
        find_table(prepared.resource, [prepared.pipeline], "nope")


def test_cli_exit_codes_and_messages(cli: CliRunner, prepared: Prepared, lake: Path, tmp_path: Path) -> None:
    assert cli.invoke(app, ["verify"]).exit_code == 0
    status = cli.invoke(app, ["status", "--json"])
    assert status.exit_code == 0 and json.loads(status.output)[0]["rows"] == 20
    assert "d-00002" in cli.invoke(app, ["status", "--partitions"]).output
    assert "2 committed, 1 waiting" in cli.invoke(app, ["status"]).output
    assert (
        "nothing removed yet" in cli.invoke(app, ["gc"]).output or "nothing to remove" in cli.invoke(app, ["gc"]).output
    )
    next((lake / prepared.job(0).shard.folder).glob("part-*.parquet")).unlink()
    damaged = cli.invoke(app, ["verify"])
    assert damaged.exit_code == 1 and "part-00000.parquet is missing" in damaged.output
    for flags in ([], ["--json"]):
        empty = cli.invoke(app, ["verify", str(tmp_path / "empty"), *flags])
        assert empty.exit_code == 2 and "nothing is committed" in empty.output and "sound" not in empty.output


def test_cli_names_a_wrong_setting_and_a_wrong_pipeline(
    cli: CliRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMBED_COMPUTE", "mainframe")
    wrong = cli.invoke(app, ["status"])
    assert wrong.exit_code == 2 and "EMBED_COMPUTE" in wrong.output
    monkeypatch.setenv("EMBED_COMPUTE", "local")
    monkeypatch.setenv("EMBED_PIPELINES", str(tmp_path / "none.yaml"))
    missing = cli.invoke(app, ["status"])
    assert missing.exit_code == 2 and "none.yaml" in missing.output


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("EMBED_SKY_DISK_SIZE", "abc", "EMBED_SKY_DISK_SIZE: "),
        ("EMBED_SKY_ENVS", "A=1", 'EMBED_SKY_ENVS: write it as JSON, such as {"NAME": "value"}'),
        ("EMBED_SKY_TASK_FILE", "/none.yaml", "task file /none.yaml cannot be read"),
    ],
)
def test_cli_names_the_variable_that_was_set_wrongly(
    cli: CliRunner, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, said: str
) -> None:
    monkeypatch.setenv(variable, value)
    wrong = cli.invoke(app, ["plan"])
    assert wrong.exit_code == 2 and said in wrong.output


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--tokens-per-row", "-3"], "--tokens-per-row: "),
        (["--accelerators", "L4:x"], "write it as L4 or L4:2"),
        (["--pipeline", "none"], "no pipeline 'none'; there are "),
    ],
)
def test_cli_names_the_option_that_was_set_wrongly(cli: CliRunner, options: list[str], said: str) -> None:
    wrong = cli.invoke(app, ["plan", *options])
    assert wrong.exit_code == 2 and said in wrong.output


def test_an_empty_variable_is_none_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty EMBED_LAKE would be the folder one stands in."""
    for name in ("EMBED_LAKE", "EMBED_PIPELINES"):
        monkeypatch.setenv(name, "")
    assert (Settings().lake, Settings().pipelines) == (".demo/lake", "pipelines/demo.yaml")
