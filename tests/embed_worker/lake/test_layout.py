"""Path arithmetic and the partition of rows."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from embed_worker.lake import layout
from embed_worker.lake.identity import KEY_TYPE, text_keys
from embed_worker.lake.layout import Partitioning

METHODS = st.sampled_from(["content", "stride", "contiguous"])
PLACED = st.sampled_from(["stride", "contiguous"])
NO_KEYS = pa.array([], KEY_TYPE)


def strides_of(partitioning: Partitioning, rows: int) -> np.ndarray:
    """Of rows whose texts are their numbers."""
    keys = pa.array(text_keys(map(str, range(rows))), KEY_TYPE)
    return partitioning.stride_of(np.arange(rows), keys, rows)


@given(METHODS, st.integers(1, 10_000), st.integers(0, 3_000))
@example("stride", 10_000, 3)
@example("content", 10_000, 3)
@example("contiguous", 1, 17)
@example("contiguous", 7, 0)
def test_every_row_has_a_stride(method: layout.Method, count: int, rows: int) -> None:
    found = strides_of(Partitioning(method, count), rows)
    assert found.shape == (rows,) and (rows == 0 or (found.min() >= 0 and found.max() < count))


@given(PLACED, st.integers(1, 10_000), st.integers(0, 30_000))
def test_strides_by_place_are_of_equal_size_but_for_one_row(method: layout.Method, count: int, rows: int) -> None:
    sizes = np.bincount(Partitioning(method, count).stride_of(np.arange(rows), NO_KEYS, rows), minlength=count)
    assert sizes.max() - sizes.min() <= 1


def test_strides_by_place() -> None:
    assert list(strides_of(Partitioning("contiguous", 3), 7)) == [0, 0, 1, 1, 2, 2, 2]
    assert list(strides_of(Partitioning("stride", 3), 7)) == [0, 1, 2, 0, 1, 2, 0]


def test_strides_by_content_follow_the_order_of_keys_and_are_even() -> None:
    found = strides_of(Partitioning("content", 8), 20_000)
    by_key = np.argsort(np.array(text_keys(map(str, range(20_000)))), kind="stable")
    assert (np.diff(found[by_key]) >= 0).all()
    assert np.bincount(found).min() > 2_300


@given(METHODS, st.integers(1, 10_000))
def test_a_partitioning_reads_its_own_name(method: layout.Method, count: int) -> None:
    partitioning = Partitioning(method, count)
    assert Partitioning.parse(partitioning.name) == partitioning


@pytest.mark.parametrize("name", ["", "stride-5", "mod-00005", "XY-stride-00005", "../stride-00005", "stride-00005/"])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="does not name a partitioning"):
        Partitioning.parse(name)


@given(st.from_regex(rf"\A{layout.DATASET_NAME}\Z"), st.integers(0, 9_999))
def test_partition_keys_split_again(dataset: str, stride: int) -> None:
    assert layout.split_partition_key(layout.partition_key(dataset, stride)) == (dataset, stride)


def test_the_paths_of_format_2_stay_as_they_are() -> None:
    """Lakes outlive versions: a change here is a new format."""
    partitioning = Partitioning("content", 500)
    assert layout.FORMAT == 2
    cut = layout.strides_folder("books", "0a1b2c3d4e5f", partitioning)
    assert cut == "stride_partitions/books/0a1b2c3d4e5f/content-00500"
    assert layout.cut_file(cut, "ff") == f"{cut}/ff.json"
    assert layout.slice_file(cut, "ee") == f"{cut}/slices/ee.json"
    shard = layout.ShardId.of("books", "minilm-12", partitioning, 42, "d1")
    assert shard.folder == "embedding_shards/books/minilm-12/content-00500/00042/d1"
    assert layout.raw_folder("books", "0a1b") == "raw_reviews/books/0a1b"
    assert layout.raw_base("books", "0a1b") == "raw_reviews/books/0a1b/_base.json"
    assert layout.raw_latest("books", "0a1b") == "raw_reviews/books/0a1b/_latest.json"
    assert layout.snapshot_file("books", "0a1b", "2c3d") == "raw_reviews/books/0a1b/snapshots/2c3d.json"
    assert layout.part_record("4e5f") == "parts/4e5f.json"
    assert layout.part_file("4e5f") == "parts/4e5f.parquet"
    assert layout.part_rejects("4e5f") == "parts/4e5f.rejects.parquet"
    assert (shard.key, shard.partitioning) == ("books-00042", partitioning)
    assert layout.part_name(3) == "part-00003.parquet"
    assert layout.partition_key("books", 42) == "books-00042"
    assert layout.job_file("books-00042", "ff") == "jobs/books-00042/ff.json"
    assert layout.heartbeat_file("books-00042", "aa") == "progress/books-00042/aa.json"
    assert layout.canaries_file("minilm-12") == "embedding_spaces/minilm-12.json"
    assert layout.set_folder("books", "minilm-12", "0a") == "embedding_sets/books/minilm-12/0a"
