"""Files with digests: fetching proves, publishing adopts and never replaces."""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from embed_worker.attempt.checkpoints import ORPHAN
from embed_worker.lake import files
from embed_worker.lake.errors import DamagedData
from embed_worker.lake.store import Store


@pytest.fixture(params=["local", "s3"])
def store(request: pytest.FixtureRequest) -> Store:
    return Store(request.getfixturevalue("lake" if request.param == "local" else "s3_root"))


def _parquet(path: Path, values: list[int], compression: str = "zstd") -> Path:
    pq.write_table(pa.table({"x": values}), path, compression=compression)
    return path


def test_fetch_brings_the_very_file(store: Store, tmp_path: Path) -> None:
    source = tmp_path / "a"
    source.write_bytes(b"x" * 3_000_000)
    ref = files.describe(source, "00003/part", 7)
    assert (ref.rows, ref.bytes, ref.path) == (7, 3_000_000, "00003/part")
    store.create_file("folder/00003/part", source)
    target = tmp_path / "target"
    target.mkdir()
    assert files.fetch(store, "folder", ref, target).read_bytes() == source.read_bytes()
    assert files.fault_of(store, "folder", ref) is None


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (lambda store: None, "is missing"),
        (lambda store: store.create("folder/part", b"x" * 99), "part"),
        (lambda store: store.create("folder/part", b"x" * 99 + b"y"), "sha256 differs"),
    ],
)
def test_fetch_refuses_another_file_and_names_it(
    store: Store, tmp_path: Path, damage: Callable[[Store], object], complaint: str
) -> None:
    source = tmp_path / "a"
    source.write_bytes(b"x" * 100)
    ref = files.describe(source, "part", 1)
    damage(store)
    with pytest.raises(DamagedData, match=complaint) as caught:
        files.fetch(store, "folder", ref, tmp_path)
    assert store.url("folder/part") in str(caught.value)
    fault = files.fault_of(store, "folder", ref)
    assert fault is not None and complaint in fault


def test_publish_into_an_empty_folder(store: Store, tmp_path: Path) -> None:
    local = _parquet(tmp_path / "p", [1, 2])
    ref = files.publish(store, "shard", local, "part-00000.parquet", 2)
    assert ref == files.describe(local, "part-00000.parquet", 2)
    assert files.fault_of(store, "shard", ref) is None


def test_publish_adopts_the_same_bytes_and_the_same_rows(store: Store, tmp_path: Path) -> None:
    """A twin with another Parquet version writes other bytes: its file counts, since its manifest may be first."""
    theirs = files.publish(store, "shard", _parquet(tmp_path / "t", [1, 2]), "part", 2)
    assert files.publish(store, "shard", _parquet(tmp_path / "same", [1, 2]), "part", 2) == theirs
    mine = _parquet(tmp_path / "m", [1, 2], compression="none")
    assert files.sha256_of(mine) != theirs.sha256
    assert files.publish(store, "shard", mine, "part", 2) == theirs
    assert files.fault_of(store, "shard", theirs) is None
    assert list(tmp_path.glob("*.theirs")) == []


@pytest.mark.parametrize("left", [b"", b"half a parq", None])
def test_publish_leaves_other_content_alone_and_takes_a_name_of_its_own(
    store: Store, tmp_path: Path, left: bytes | None
) -> None:
    """An attempt that was frozen meanwhile, or a twin, may commit what lies there."""
    if left is None:
        left = _parquet(tmp_path / "other", [1, 3]).read_bytes()
    store.create("shard/part-00000.parquet", left)
    mine = _parquet(tmp_path / "m", [1, 2])
    refs = [files.publish(store, "shard", mine, "part-00000.parquet", 2) for _ in range(2)]
    assert store.read("shard/part-00000.parquet") == left
    assert len({ref.path for ref in refs}) == 2
    for ref in refs:
        assert ORPHAN.fullmatch(ref.path) and ref.path != "part-00000.parquet"
        assert files.fault_of(store, "shard", ref) is None
