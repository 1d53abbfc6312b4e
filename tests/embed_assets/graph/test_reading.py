"""Vectors as the input of a user's own asset."""

from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl

from embed_assets import EmbeddingPipeline, EmbeddingsIOManager, asset_keys, partitions_of, specs
from tests.kits import pipelines as kit

COLUMNS = ["dataset", "id", "text_key", "chunk", "n_tokens", "char_start", "char_end", "embedding"]
SHARDS = dg.AssetKey(["p", "embedding_shards"])


class Readers:
    """Two datasets in a lake, all partitions but those of `but` embedded, and an asset downstream of them."""

    def __init__(self, folder: Path, but: tuple[str, ...] = ()) -> None:
        sources = {
            name: kit.write_jsonl(folder / f"{name}.jsonl", kit.texts(6, 100 * i)) for i, name in enumerate("ab")
        }
        self.ready = [
            kit.Prepared(folder / "lake", str(path), name=name, strides=2 + (name == "a"))
            for name, path in sources.items()
        ]
        for one in self.ready:
            for stride, key in enumerate(one.dataset.stride_keys()):
                if key not in but:
                    one.embed(stride)
        self.pipeline: EmbeddingPipeline = kit.pipeline([one.dataset for one in self.ready])
        self.seen: list[Any] = []
        self.manager = EmbeddingsIOManager(self.ready[0].store.root, [self.pipeline])

    def read(
        self,
        key: dg.AssetKey = SHARDS,
        partition: str | None = None,
        *,
        kind: Any = pl.LazyFrame,
        upstream: Any = None,
        partitions_def: Any = None,
        **asset_in: Any,
    ) -> dg.ExecuteInProcessResult:
        seen = self.seen

        def reader(vectors: Any) -> None:
            seen.append(vectors)

        reader.__annotations__["vectors"] = kind
        ins = {"vectors": dg.AssetIn(key, input_manager_key="embeddings", **asset_in)}
        asset = dg.asset(ins=ins, partitions_def=partitions_def)(reader)
        assets = [*(specs(self.pipeline) if upstream is None else upstream), asset]
        definitions = dg.Definitions(assets=assets, resources={"embeddings": self.manager})
        return definitions.resolve_implicit_global_asset_job_def().execute_in_process(
            asset_selection=[asset.key], partition_key=partition, raise_on_error=False
        )

    def rows(self) -> list[tuple[str, int]]:
        (frame,) = self.seen
        assert isinstance(frame, pl.LazyFrame)
        assert frame.collect_schema().names() == COLUMNS
        return sorted((name, int(id_)) for name, id_ in frame.select("dataset", "id").unique().collect().rows())


def why(run: dg.ExecuteInProcessResult) -> str:
    assert not run.success
    (event,) = [event for event in run.all_events if event.is_step_failure]
    assert event.step_failure_data.user_failure_data is not None, event.step_failure_data.error
    return event.step_failure_data.user_failure_data.description or ""


def test_by_the_same_partition(tmp_path: Path) -> None:
    readers = Readers(tmp_path, but=("a-00000", "b-00001"))
    assert readers.read(partition="a-00002", partitions_def=partitions_of(readers.pipeline).strides).success
    assert readers.rows() == [("a", 2), ("a", 5)]


def test_as_a_whole_dataset(tmp_path: Path) -> None:
    readers = Readers(tmp_path, but=("a-00000",))
    partitions = partitions_of(readers.pipeline)
    run = readers.read(
        partition="b", partitions_def=partitions.datasets, partition_mapping=partitions.strides_to_dataset
    )
    assert run.success
    assert readers.rows() == [("b", row) for row in range(6)]


def test_of_an_asset_that_has_datasets_as_partitions(tmp_path: Path) -> None:
    readers = Readers(tmp_path)
    key = asset_keys(readers.pipeline)["vector_index"]
    assert readers.read(key, "a", partitions_def=partitions_of(readers.pipeline).datasets).success
    assert readers.rows() == [("a", row) for row in range(6)]


def test_everything(tmp_path: Path) -> None:
    readers = Readers(tmp_path)
    assert readers.read().success
    assert readers.rows() == [(name, row) for name in "ab" for row in range(6)]
    assert readers.seen[0].collect()["embedding"].dtype == pl.Array(pl.Float32, 32)


def test_a_data_frame_where_the_asset_asks_for_one(tmp_path: Path) -> None:
    readers = Readers(tmp_path)
    assert readers.read(kind=pl.DataFrame).success
    assert isinstance(readers.seen[0], pl.DataFrame)


def test_a_missing_partition_fails_in_one_sentence(tmp_path: Path) -> None:
    readers = Readers(tmp_path, but=("a-00001",))
    assert "1 of 3 embedding_shards of a are not committed: a-00001. Materialize" in why(readers.read())
    assert not readers.seen


def test_an_asset_with_a_key_of_its_own_names_its_pipeline(tmp_path: Path) -> None:
    readers = Readers(tmp_path)
    theirs = dg.AssetSpec("their_vectors")
    told = why(readers.read(theirs.key, upstream=[theirs]))
    assert told.startswith("their_vectors: EmbeddingsIOManager has the pipelines p, and reads their embedding_shards")
    assert readers.read(theirs.key, upstream=[theirs], metadata={"pipeline": "p"}).success
    assert len(readers.rows()) == 12


def test_a_partition_that_is_none_of_the_pipelines(tmp_path: Path) -> None:
    readers = Readers(tmp_path)
    theirs = dg.AssetSpec("theirs", partitions_def=dg.StaticPartitionsDefinition(["a", "c"]))
    told = why(readers.read(theirs.key, upstream=[theirs], metadata={"pipeline": "p"}))
    assert told == "c: no dataset and no partition of the pipeline p"


def test_it_stores_nothing(tmp_path: Path) -> None:
    readers = Readers(tmp_path)

    @dg.asset(io_manager_key="embeddings")
    def made() -> int:
        return 1

    run = dg.materialize([made], resources={"embeddings": readers.manager}, raise_on_error=False)
    assert why(run).startswith("EmbeddingsIOManager only loads: name it as an AssetIn's input_manager_key")
