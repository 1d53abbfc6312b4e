"""Verify finds every damage and writes nothing."""

import random
import shutil
from pathlib import Path

import pytest

from embed_assets.upkeep.verify import verify_lake
from embed_worker.engine.loading import load_model
from embed_worker.lake import layout
from embed_worker.lake.seal import sealed, unsealed
from tests.kits import pipelines as kit
from tests.kits.pipelines import Prepared


def test_a_sound_lake_is_sound_and_verify_writes_nothing(prepared: Prepared) -> None:
    before = sorted(prepared.store.walk(""))
    report = verify_lake(prepared.store)
    assert report.damages == []
    assert (report.snapshots, report.partitionings, report.shards, report.unfinished) == (1, 1, 2, 0)
    assert report.rows == prepared.expected(0).rows + prepared.expected(1).rows
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
        layout.raw_base("d", raw.ingest_id): b'{"snapshot": "000000000000"}',
        layout.raw_latest("d", raw.ingest_id): b'{"snapshot": "000000000000"}',
        raw.path: b"{",
        f"{raw.folder}/{layout.part_record(raw.parts[0].part_id)}": b"{}",
        f"{prepared.job(0).shard.folder}/_manifest.json": b'{"format": 2}',
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
