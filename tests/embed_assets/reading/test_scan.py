"""The vectors of a dataset as a lazy Polars frame."""

from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from embed_assets import Lake
from embed_worker.lake.errors import DamagedData, NotReady
from tests.kits import pipelines as kit
from tests.kits.checked import change_manifest

ROWS = [*kit.texts(11), {"key": "long", "text": "a long text of several windows, " * 8, "n": 11}]
COLUMNS = ["id", "text_key", "chunk", "n_tokens", "char_start", "char_end", "embedding"]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return kit.write_jsonl(tmp_path / "source.jsonl", ROWS)


def prepared(lake: Any, source: Path, *strides: int, **changes: Any) -> kit.Prepared:
    ready = kit.Prepared(lake, str(source), **changes)
    for stride in strides:
        ready.embed(stride)
    return ready


def files_of(ready: kit.Prepared, stride: int) -> list[str]:
    manifest = ready.resource.shard(ready.job(stride).shard)
    assert manifest is not None
    return [ready.store.path(f"{manifest.shard.folder}/{file.path}") for file in manifest.files]


@pytest.mark.parametrize("output_dtype", ["float32", "float16"])
def test_it_is_what_the_files_hold(tmp_path: Path, source: Path, output_dtype: str) -> None:
    ready = prepared(tmp_path / "lake", source, 0, 1, 2, embedding=kit.spec(output_dtype=output_dtype))
    frame = Lake(ready.store.root).scan(ready.pipeline, "d")
    kind = pl.Float16() if output_dtype == "float16" else pl.Float32()
    assert frame.collect_schema()["embedding"] == pl.Array(kind, 32)
    found = frame.collect()
    assert found.columns == COLUMNS
    for stride in range(3):
        (path,) = files_of(ready, stride)
        rows = found.filter(pl.col("id").cast(pl.Int64) % 3 == stride)
        table = pq.read_table(path)
        assert rows.select(COLUMNS[:-1]).rows() == list(
            zip(*(table.column(c).to_pylist() for c in COLUMNS[:-1]), strict=True)
        )
        assert rows["embedding"].to_list() == table.column("embedding").to_pylist()
    assert found.filter(pl.col("id") == "11")["chunk"].to_list() == list(range(found["chunk"].max() + 1))  # type: ignore[operator]
    assert sorted(map(int, found["id"].unique())) == list(range(12))


def test_the_call_reads_manifests_only(tmp_path: Path, source: Path) -> None:
    ready = prepared(tmp_path / "lake", source, 0, 1, 2)
    for stride in range(3):
        for path in files_of(ready, stride):
            Path(path).unlink()
    frame = Lake(ready.store.root).scan(ready.pipeline, "d")
    assert frame.collect_schema().names() == COLUMNS
    with pytest.raises(FileNotFoundError):
        frame.collect()


def spoil(path: str, column: str) -> None:
    """Makes a column's pages unreadable, and leaves the others whole."""
    about = pq.ParquetFile(path).metadata.row_group(0)
    chunk = next(about.column(i) for i in range(about.num_columns) if about.column(i).path_in_schema.startswith(column))
    with Path(path).open("r+b") as file:
        file.seek(chunk.data_page_offset)
        file.write(b"\xff" * 16)


def test_a_column_that_is_not_asked_for_is_not_read(tmp_path: Path, source: Path) -> None:
    ready = prepared(tmp_path / "lake", source, 0, 1, 2)
    for stride in range(3):
        spoil(files_of(ready, stride)[0], "embedding")
    frame = Lake(ready.store.root).scan(ready.pipeline, "d")
    assert "PROJECT 1/7 COLUMNS" in frame.select("id").explain()
    assert frame.select("id").collect()["id"].n_unique() == 12
    with pytest.raises(pl.exceptions.ComputeError):
        frame.collect()


def test_a_file_that_the_predicate_rules_out_is_not_read(tmp_path: Path, source: Path) -> None:
    ready = prepared(tmp_path / "lake", source, 0, 1, 2, partitioning="content")
    spoil(files_of(ready, 0)[0], "text_key")
    last = ready.rows(2)
    frame = Lake(ready.store.root).scan(ready.pipeline, "d")
    those = frame.filter(pl.col("text_key") >= last[0]["text_key"])
    assert "SELECTION" in those.explain()
    assert set(those.collect()["id"]) == {row["id"] for row in last}
    with pytest.raises(pl.exceptions.ComputeError):
        frame.collect()


def test_a_partition_alone_and_several_in_the_order_asked(tmp_path: Path, source: Path) -> None:
    ready = prepared(tmp_path / "lake", source, 0, 1, 2)
    lake = Lake(ready.store.root)
    one = lake.scan(ready.pipeline, "d", partition="d-00001").collect()
    assert set(one["id"]) == {row["id"] for row in ready.rows(1)}
    two = lake.scan(ready.pipeline, "d", partition=["d-00002", "d-00001"]).collect()
    assert_frame_equal(two.tail(len(one)), one)
    assert lake.scan(ready.pipeline, "d", partition=[]).collect().is_empty()
    with pytest.raises(ValueError, match="d has no partition 'd-00003'; it has d-00000 to d-delta"):
        lake.scan(ready.pipeline, "d", partition="d-00003")


def test_one_error_names_what_is_missing(tmp_path: Path, source: Path) -> None:
    ready = prepared(tmp_path / "lake", source, 1)
    lake = Lake(ready.store.root)
    with pytest.raises(
        NotReady, match=r"2 of 3 embedding_shards of d are not committed: d-00000, d-00002\. Materialize"
    ):
        lake.scan(ready.pipeline, "d")
    assert lake.scan(ready.pipeline, "d", partition="d-00001").collect()["id"].n_unique() == 4
    assert lake.scan(ready.pipeline, "d", missing="skip").collect()["id"].n_unique() == 4
    with pytest.raises(NotReady, match="raw_reviews of d is not in"):
        Lake(str(tmp_path / "other")).scan(ready.pipeline, "d")
    with pytest.raises(KeyError, match="no dataset 'e' in pipeline p; it has d"):
        lake.scan(ready.pipeline, "e")


def test_the_pipeline_may_be_its_file(tmp_path: Path, source: Path) -> None:
    ready = prepared(tmp_path / "lake", source, 0, 1, 2)
    path = tmp_path / "p.yaml"
    path.write_text(yaml.safe_dump(ready.pipeline.model_dump(mode="json", exclude_defaults=True)))
    lake = Lake(ready.store.root)
    for given_as in (path, str(path)):
        assert_frame_equal(lake.scan(given_as, "d").collect(), lake.scan(ready.pipeline, "d").collect())


def test_an_empty_partition_has_the_type_of_the_others(tmp_path: Path) -> None:
    source = kit.write_jsonl(tmp_path / "two.jsonl", kit.texts(2))
    ready = prepared(tmp_path / "lake", source, 0, 1, 2)
    empty = Lake(ready.store.root).scan(ready.pipeline, "d", partition="d-00002").collect()
    assert empty.is_empty() and empty.schema["embedding"] == pl.Array(pl.Float32, 32)


def test_vectors_of_two_lengths_are_told(tmp_path: Path, source: Path) -> None:
    ready = prepared(tmp_path / "lake", source, 0, 1, 2)
    change_manifest(ready, dimension=16)
    with pytest.raises(DamagedData, match=r"d-00000 has 32|d-00002 has 32.*d-00001 has 16"):
        Lake(ready.store.root).scan(ready.pipeline, "d")


def test_a_folder_with_characters_of_a_pattern(tmp_path: Path, source: Path) -> None:
    ready = prepared(tmp_path / "la[k]e*" / "year=2024", source, 0, 1, 2)
    found = Lake(ready.store.root).scan(ready.pipeline, "d").collect()
    assert found.columns == COLUMNS and found["id"].n_unique() == 12


def test_on_s3_with_the_environments_credentials(s3_root: str, source: Path) -> None:
    ready = prepared(s3_root, source, 0, 1, 2)
    frame = Lake(s3_root).scan(ready.pipeline, "d")
    assert frame.filter(pl.col("id") == "5").select("id").collect()["id"].to_list() == ["5"]
    assert frame.collect()["embedding"].dtype == pl.Array(pl.Float32, 32)


def test_on_s3_with_fsspecs_own_settings(seaweed_root: str, source: Path) -> None:
    ready = prepared(seaweed_root, source, 0, 1, 2)
    lake = Lake(seaweed_root)
    assert lake.scan(ready.pipeline, "d").collect()["id"].n_unique() == 12
    keys = {"aws_access_key_id": "other", "aws_secret_access_key": "other"}
    with pytest.raises(OSError, match=r"(?i)InvalidAccessKeyId|403"):
        lake.scan(ready.pipeline, "d", storage_options=keys).collect()


@settings(max_examples=15, deadline=None)
@given(
    words=st.lists(st.text(min_size=0, max_size=150), min_size=1, max_size=12),
    strides=st.integers(1, 4),
    data=st.data(),
)
def test_every_row_that_has_a_vector_is_there_once(
    tmp_path_factory: pytest.TempPathFactory, words: list[str], strides: int, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("scan")
    source = kit.write_jsonl(folder / "source.jsonl", [{"text": word} for word in ["a", *words]])
    ready = prepared(folder / "lake", source, *range(strides), strides=strides)
    rejected = sum(found.rows_rejected for s in range(strides) if (found := ready.resource.shard(ready.job(s).shard)))
    lake = Lake(ready.store.root)
    found = lake.scan(ready.pipeline, "d").collect()
    assert found["id"].n_unique() == ready.raw.rows - rejected
    assert not found.select("id", "chunk").is_duplicated().any()
    keys = data.draw(st.lists(st.sampled_from(ready.dataset.partition_keys()), unique=True))
    apart = [lake.scan(ready.pipeline, "d", partition=key).collect() for key in keys]
    together = lake.scan(ready.pipeline, "d", partition=keys).collect()
    assert_frame_equal(together, pl.concat(apart) if apart else together.clear())
