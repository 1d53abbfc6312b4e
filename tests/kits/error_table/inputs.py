"""What an asset is made from: missing, changing, or not as the spec says."""

from collections.abc import Iterator
from typing import Any

from embed_worker.steps.raw import ingest
from embed_worker.steps.source import SourceFile
from resources.lake import Lake
from tests.kits import pipelines as kit
from tests.kits.error_table.damage import flip, one
from tests.kits.error_table.registry import provokes
from tests.kits.error_table.scene import Scene
from tests.kits.graph_bench import INDEX, RAW, SET, SHARDS, STRIDES


@provokes("raw_reviews of … is not in …; materialize it first")
def nothing_is_ingested(scene: Scene) -> Iterator[str]:
    yield scene.told(SHARDS)
    yield scene.told(STRIDES)
    scene.made(RAW)
    scene.made(STRIDES)
    scene.made(SHARDS)


@provokes("stride_partitions of … are not there for snapshot …; materialize them first")
def nothing_is_cut(scene: Scene) -> Iterator[str]:
    ingest(Lake(str(scene.bench.lake)).store, kit.dataset(str(scene.source), name="a", strides=2))
    yield scene.told(SHARDS)
    scene.made(STRIDES)
    scene.made(SHARDS)


@provokes("embedding_shards of … are not committed: …. Materialize them first")
def a_shard_is_missing(scene: Scene) -> Iterator[str]:
    scene.ready.embed(0)
    yield scene.told(SET)
    scene.made(SHARDS, "a-00001")
    scene.made(SET)


@provokes("embedding_set of … is not in …; materialize it first")
def there_is_no_set(scene: Scene) -> Iterator[str]:
    for stride in (0, 1):
        scene.ready.embed(stride)
    yield scene.told(INDEX)
    scene.made(SET)
    scene.made(INDEX)


@provokes("embedding_shards of … are not to be published: …. Materialize them again")
def a_shard_is_red(scene: Scene) -> Iterator[str]:
    for stride in (0, 1):
        scene.ready.embed(stride)
    flip(one(scene, "embedding_shards/a/*/*/00000/*/part-*.parquet"))
    yield scene.told(SET)
    scene.made(SHARDS)
    scene.made(SET)


@provokes("the source changed while it was read; materialize it again")
def the_source_changes(scene: Scene) -> Iterator[str]:
    original = SourceFile.open

    def open_and_append(self: SourceFile) -> Any:
        with scene.source.open("a") as file:
            file.write('{"text": "one more"}\n')
        return original(self)

    with scene.patch.context() as patch:
        patch.setattr(SourceFile, "open", open_and_append)
        yield scene.told(RAW)
    scene.made(RAW)


@provokes("there is no such file")
def the_source_is_gone(scene: Scene) -> Iterator[str]:
    away = scene.source.rename(scene.source.with_suffix(".away"))
    yield scene.told(RAW)
    away.rename(scene.source)
    scene.made(RAW)


@provokes("is cut off, damaged or not …; fetch it again")
def the_source_is_cut_off(scene: Scene) -> Iterator[str]:
    whole = scene.source.read_bytes()
    scene.bench.ingest = {"compression": "gzip"}
    scene.source.write_bytes(b"\x1f\x8b\x08\x00" + whole)
    yield scene.told(RAW)
    scene.bench.ingest = {}
    scene.source.write_bytes(whole)
    scene.made(RAW)


@provokes("records are set aside, more than max_rejects")
def too_many_are_set_aside(scene: Scene) -> Iterator[str]:
    whole = scene.source.read_bytes()
    scene.bench.ingest = {"max_rejects": 0.01}
    scene.source.write_bytes(whole + b"no JSON\n" * 3)
    yield scene.told(RAW)
    scene.bench.ingest = {}
    scene.source.write_bytes(whole)
    scene.made(RAW)


@provokes("the source loses … rows (…), more than max_removed …. Nothing is taken of it")
def the_export_is_nearly_empty(scene: Scene) -> Iterator[str]:
    scene.made(RAW)
    whole = scene.source.read_bytes()
    scene.source.write_bytes(whole.splitlines(keepends=True)[0])
    yield scene.told(RAW, "a-delta")
    scene.source.write_bytes(whole)
    scene.made(RAW, "a-delta")


@provokes("stride_partitions of … is not there for delta …; materialize it first")
def the_delta_is_not_cut(scene: Scene) -> Iterator[str]:
    scene.made(RAW)
    with scene.source.open("a") as file:
        file.write('{"text": "one more"}\n')
    scene.made(RAW, "a-delta")
    yield scene.told(SHARDS, "a-delta")
    scene.made(STRIDES, "a-delta")
    scene.made(SHARDS, "a-delta")


@provokes("has no column …; it has …")
def the_template_names_no_column(scene: Scene) -> Iterator[str]:
    scene.bench.ingest = {"text": "{body}"}
    yield scene.told(RAW)
    scene.bench.ingest = {}
    scene.made(RAW)


@provokes("the source has no record that")
def where_lets_nothing_through(scene: Scene) -> Iterator[str]:
    scene.bench.ingest = {"where": {"n": -1}}
    yield scene.told(RAW)
    scene.bench.ingest = {}
    scene.made(RAW)


@provokes("was made with another range of rows than this pipeline's; materialize raw_reviews again")
def the_row_range_is_edited(scene: Scene) -> Iterator[str]:
    bench = scene.bench
    scene.made(RAW)
    scene.made(STRIDES)
    bench.ingest = {"rows": {"end": 9}}
    yield scene.told(SHARDS)
    scene.made(RAW)
    assert bench.stale(STRIDES, ["a-00000"])
    scene.made(STRIDES)
    scene.made(SHARDS)
    assert not bench.stale(SHARDS, ["a-00000"])


@provokes("has no words; say what to look for")
def a_query_of_blanks(scene: Scene) -> Iterator[str]:
    yield scene.command("search", " ")
