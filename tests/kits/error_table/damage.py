"""Files of the lake that are damaged."""

from collections.abc import Iterator
from pathlib import Path

from tests.kits.error_table.registry import provokes
from tests.kits.error_table.scene import Scene
from tests.kits.graph_bench import INDEX, RAW, SET, SHARDS, STRIDES


def flip(path: Path) -> None:
    """One byte in the middle."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)


def edit(path: Path) -> None:
    """Still JSON, and not what was written."""
    path.write_bytes(path.read_bytes().replace(b'": ', b'":  ', 1))


def one(scene: Scene, pattern: str) -> Path:
    return sorted(Path(scene.bench.lake).glob(pattern))[0]


@provokes("_base.json …; materialize raw_reviews of … again")
def the_pointer(scene: Scene) -> Iterator[str]:
    assert scene.ready
    edit(one(scene, "raw_reviews/a/*/_base.json"))
    yield scene.told(STRIDES)
    scene.made(RAW)
    scene.made(STRIDES)


@provokes("its digest does not fit", "snapshots/….json …; materialize raw_reviews of … again")
def the_snapshots_manifest(scene: Scene) -> Iterator[str]:
    assert scene.ready
    edit(one(scene, "raw_reviews/a/*/snapshots/*.json"))
    yield scene.told(SHARDS)
    scene.made(RAW)
    scene.made(SHARDS)


@provokes("is not JSON", "snapshots/….json …; materialize raw_reviews of … again")
def the_snapshots_manifest_cut_off(scene: Scene) -> Iterator[str]:
    assert scene.ready
    path = one(scene, "raw_reviews/a/*/snapshots/*.json")
    path.write_bytes(path.read_bytes()[:100])
    yield scene.told(SHARDS)
    scene.made(RAW)
    scene.made(SHARDS)


@provokes("….json …; materialize stride_partitions of … again")
def the_strides_manifest(scene: Scene) -> Iterator[str]:
    assert scene.ready
    edit(one(scene, "stride_partitions/a/*/*/*.json"))
    yield scene.told(SHARDS)
    scene.made(STRIDES)
    scene.made(SHARDS)


@provokes("_manifest.json …; materialize embedding_shards of … again")
def a_shards_manifest(scene: Scene) -> Iterator[str]:
    for stride in (0, 1):
        scene.ready.embed(stride)
    scene.made(SET)
    edit(one(scene, "embedding_shards/a/*/*/00000/*/_manifest.json"))
    yield scene.told(INDEX)
    scene.made(SHARDS)
    scene.made(INDEX)


@provokes("Re-materialize stride_partitions, then this partition")
def an_input(scene: Scene) -> Iterator[str]:
    assert scene.ready
    scene.bench.break_input("a-00000")
    yield scene.told(SHARDS)
    scene.made(STRIDES)
    scene.made(SHARDS)


@provokes("is not the file its manifest names: its sha256 differs; materialize its partition again")
def a_part(scene: Scene) -> Iterator[str]:
    for stride in (0, 1):
        scene.ready.embed(stride)
    scene.made(SET)
    flip(one(scene, "embedding_shards/a/*/*/00000/*/part-*.parquet"))
    yield scene.told(INDEX)
    scene.made(SHARDS)
    scene.made(INDEX)


@provokes("bytes, its manifest says …; materialize its partition again")
def a_part_cut_off(scene: Scene) -> Iterator[str]:
    for stride in (0, 1):
        scene.ready.embed(stride)
    scene.made(SET)
    path = one(scene, "embedding_shards/a/*/*/00000/*/part-*.parquet")
    path.write_bytes(path.read_bytes()[:-1])
    yield scene.told(INDEX)
    scene.made(SHARDS)
    scene.made(INDEX)


@provokes("is missing; materialize its partition again")
def a_part_gone(scene: Scene) -> Iterator[str]:
    for stride in (0, 1):
        scene.ready.embed(stride)
    scene.made(SET)
    one(scene, "embedding_shards/a/*/*/00000/*/part-*.parquet").unlink()
    yield scene.told(INDEX)
    scene.made(SHARDS)
    scene.made(INDEX)


@provokes("nothing is committed in …; is this the lake you meant?")
def another_lake(scene: Scene) -> Iterator[str]:
    yield scene.command("verify")
    scene.ready.embed(0)
    assert "all sound" in scene.works("verify")
