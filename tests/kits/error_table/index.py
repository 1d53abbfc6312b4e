"""Of the table that is searched."""

from collections.abc import Iterator

from tests.kits.error_table.registry import provokes
from tests.kits.error_table.scene import Scene
from tests.kits.graph_bench import INDEX, SET


def ready(scene: Scene) -> None:
    for stride in (0, 1):
        scene.ready.embed(stride)
    scene.made(SET)


@provokes("is no … in the row …: …. Correct the source, or the type")
def a_column_of_another_type(scene: Scene) -> Iterator[str]:
    ready(scene)
    scene.bench.more = {"index": {"columns": {"key": "int64"}}}
    yield scene.told(INDEX)
    scene.bench.more = {"index": {"columns": {"key": "string"}}}
    scene.made(INDEX)


@provokes("recall@10 of … is …, index.min_recall is …: nothing is published. index: {… reaches …")
def an_index_that_misses_too_much(scene: Scene) -> Iterator[str]:
    ready(scene)
    scene.bench.more = {"index": {"type": "IVF_HNSW_SQ"}}
    scene.patch.setattr("embed_assets.index.build.recall", lambda *_: 0.5)
    yield scene.told(INDEX)
    scene.bench.more = {"index": {"type": "none"}}
    scene.made(INDEX)


@provokes("the table of … takes about …: free some space, or point EMBED_LAKE elsewhere; nothing was written")
def a_table_larger_than_the_disk(scene: Scene) -> Iterator[str]:
    ready(scene)
    with scene.patch.context() as patch:
        patch.setattr("embed_assets.index.build.shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000})())
        yield scene.told(INDEX)
    scene.made(INDEX)
