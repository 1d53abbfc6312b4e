"""Path arithmetic and the partition of rows."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from embed_worker.lake import layout
from embed_worker.lake.layout import Partitioning

METHODS = st.sampled_from(["stride", "contiguous"])


@given(METHODS, st.integers(1, 10_000), st.integers(0, 30_000))
@example("stride", 10_000, 3)
@example("contiguous", 10_000, 3)
@example("stride", 1, 17)
@example("contiguous", 1, 17)
@example("contiguous", 7, 0)
def test_every_row_is_in_exactly_one_stride(method: layout.Method, count: int, rows: int) -> None:
    partitioning = Partitioning("0a1b2c3d4e5f", method, count)
    seen = np.zeros(rows, dtype=int)
    owner = np.full(rows, -1)
    for stride in range(count):
        ids = partitioning.row_ids(stride, rows)
        if len(ids):
            array = np.asarray(ids)
            assert (np.diff(array) > 0).all()
            np.add.at(seen, array, 1)
            owner[array] = stride
    assert (seen == 1).all()
    np.testing.assert_array_equal(partitioning.stride_of(np.arange(rows), rows), owner)


@given(METHODS, st.integers(1, 10_000), st.integers(1, 10**10), st.data())
def test_stride_of_is_the_inverse_of_row_ids_at_any_size(
    method: layout.Method, count: int, rows: int, data: st.DataObject
) -> None:
    partitioning = Partitioning("ab", method, count)
    row = data.draw(st.integers(0, rows - 1))
    stride = int(partitioning.stride_of(np.array([row]), rows)[0])
    assert 0 <= stride < count
    assert row in partitioning.row_ids(stride, rows)


@given(METHODS, st.integers(1, 10_000), st.integers(0, 30_000))
def test_strides_are_of_equal_size_but_for_one_row(method: layout.Method, count: int, rows: int) -> None:
    sizes = {len(Partitioning("ab", method, count).row_ids(s, rows)) for s in range(count)}
    assert max(sizes) - min(sizes) <= 1


def test_contiguous_strides_are_blocks_in_order() -> None:
    partitioning = Partitioning("ab", "contiguous", 3)
    assert [list(partitioning.row_ids(s, 7)) for s in range(3)] == [[0, 1], [2, 3], [4, 5, 6]]
    assert [list(Partitioning("ab", "stride", 3).row_ids(s, 7)) for s in range(3)] == [[0, 3, 6], [1, 4], [2, 5]]


@given(METHODS, st.integers(1, 10_000), st.text("0123456789abcdef", min_size=1, max_size=12))
def test_a_partitioning_reads_its_own_name(method: layout.Method, count: int, snapshot: str) -> None:
    partitioning = Partitioning(snapshot, method, count)
    assert Partitioning.parse(partitioning.name) == partitioning


@pytest.mark.parametrize(
    "name", ["", "ab-stride-5", "ab-mod-00005", "XY-stride-00005", "../ab-stride-00005", "ab-stride-00005/"]
)
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="does not name a partitioning"):
        Partitioning.parse(name)


@given(st.from_regex(rf"\A{layout.DATASET_NAME}\Z"), st.integers(0, 9_999))
def test_partition_keys_split_again(dataset: str, stride: int) -> None:
    assert layout.split_partition_key(layout.partition_key(dataset, stride)) == (dataset, stride)


def test_format_2_paths_stay_as_they_are() -> None:
    """Lakes outlive versions: a change here is a new format."""
    partitioning = Partitioning("0a1b2c3d4e5f", "stride", 500)
    assert layout.FORMAT == 2
    assert layout.raw_folder("books", "0a1b") == "raw_reviews/books/0a1b"
    assert layout.raw_base("books", "0a1b") == "raw_reviews/books/0a1b/_base.json"
    assert layout.raw_latest("books", "0a1b") == "raw_reviews/books/0a1b/_latest.json"
    assert layout.snapshot_file("books", "0a1b", "2c3d") == "raw_reviews/books/0a1b/snapshots/2c3d.json"
    assert layout.part_record("4e5f") == "parts/4e5f.json"
    assert layout.part_file("4e5f") == "parts/4e5f.parquet"
    assert layout.part_rejects("4e5f") == "parts/4e5f.rejects.parquet"
    assert layout.strides_folder("books", partitioning) == "stride_partitions/books/0a1b2c3d4e5f-stride-00500"
    shard = layout.ShardId.of("books", "minilm-12", partitioning, 42)
    assert shard.folder == "embedding_shards/books/minilm-12/0a1b2c3d4e5f-stride-00500/00042"
    assert (shard.key, shard.partitioning) == ("books-00042", partitioning)
    assert layout.part_name(3) == "part-00003.parquet"
    assert layout.partition_key("books", 42) == "books-00042"
    assert layout.job_file("books-00042", "ff") == "jobs/books-00042/ff.json"
    assert layout.heartbeat_file("books-00042", "aa") == "progress/books-00042/aa.json"
    assert layout.canaries_file("minilm-12") == "embedding_spaces/minilm-12.json"
