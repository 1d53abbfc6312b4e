"""Which earlier shards a job is told of: by the lake's listings alone, the best first, a bounded number."""

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embed_worker.lake.layout import WHOLE, Partitioning, ShardId
from embed_worker.lake.store import Store
from resources.bases import Bases
from tests.kits.attempt.histories import cut, prove_rows, rows_of, sequences_of
from tests.kits.attempt.jobs import CountingEngine, run

SPEC = "m-0123456789ab"


def shard(cut: Partitioning, stride: int, digest: str = "aa", dataset: str = "d") -> ShardId:
    return ShardId.of(dataset, SPEC, cut, stride, digest)


def content(count: int) -> Partitioning:
    return Partitioning("content", count)


class Listed:
    """A lake of which only names and times count."""

    def __init__(self, folder: Path) -> None:
        self.store, self._folder, self._at = Store(str(folder)), folder, 1_700_000_000

    def commit(self, *shards: ShardId) -> None:
        for one in shards:
            self._at += 1
            path = self._folder / one.manifest_path
            path.parent.mkdir(parents=True)
            path.write_text("not read")
            os.utime(path, (self._at, self._at))

    def of(self, one: ShardId, *others: str) -> list[ShardId]:
        return Bases(self.store, SPEC).of(one, others)


@pytest.fixture
def lake(tmp_path: Path) -> Listed:
    return Listed(tmp_path)


def test_a_stride_is_told_of_its_own_then_the_delta_then_those_whose_keys_overlap(lake: Listed) -> None:
    lake.commit(*(shard(content(8), s) for s in range(8)))
    lake.commit(*(shard(content(4), s) for s in range(4)))
    lake.commit(shard(WHOLE, 0, "d1"), shard(WHOLE, 0, "d2"))
    assert lake.of(shard(content(4), 1, "bb")) == [
        shard(content(4), 1), shard(WHOLE, 0, "d2"), shard(content(8), 2), shard(content(8), 3),
    ]  # fmt: skip
    assert lake.of(shard(content(3), 1, "bb")) == [
        shard(WHOLE, 0, "d2"), *(shard(content(4), s) for s in (1, 2)), *(shard(content(8), s) for s in (2, 3, 4, 5)),
    ]  # fmt: skip


def test_of_each_stride_the_newest_counts_and_a_shard_is_not_told_of_itself(lake: Listed) -> None:
    lake.commit(shard(content(1), 0, "bb"), shard(content(1), 0, "aa"))
    assert lake.of(shard(content(1), 0, "cc")) == [shard(content(1), 0, "aa")]
    assert lake.of(shard(content(1), 0, "aa")) == []


def test_a_delta_is_told_of_the_last_one_then_of_its_base(lake: Listed) -> None:
    lake.commit(*(shard(content(2), s) for s in range(2)))
    lake.commit(*(shard(content(3), s) for s in range(3)))
    lake.commit(shard(WHOLE, 0, "d1"), shard(content(2), 1, "ee"))
    assert lake.of(shard(WHOLE, 0, "d2")) == [
        shard(WHOLE, 0, "d1"), shard(content(2), 0), shard(content(2), 1, "ee"),
    ]  # fmt: skip


def test_what_is_not_cut_by_keys_is_told_of_all_of_one_whole_base(lake: Listed) -> None:
    old, new = Partitioning("stride", 3), Partitioning("stride", 4)
    lake.commit(*(shard(old, s) for s in range(3)), shard(new, 0), shard(new, 1))
    assert lake.of(shard(new, 1, "bb")) == [shard(new, 1), *(shard(old, s) for s in range(3))]
    assert lake.of(shard(content(2), 1)) == [shard(old, s) for s in range(3)]


def test_other_datasets_come_last_and_only_where_they_are_named(lake: Listed) -> None:
    lake.commit(shard(content(2), 0), *(shard(content(2), s, dataset="e") for s in range(2)))
    one = shard(content(2), 0, "bb")
    assert lake.of(one) == [shard(content(2), 0)]
    assert lake.of(one, "e", "not-there") == [shard(content(2), 0), shard(content(2), 0, dataset="e")]


def test_what_is_not_committed_is_not_told(lake: Listed, tmp_path: Path) -> None:
    folder = tmp_path / shard(content(1), 0).folder
    folder.mkdir(parents=True)
    (folder / "_retired-x.json").write_text("")
    (folder / "part-00000.parquet").write_text("")
    assert lake.of(shard(content(1), 0, "bb")) == []


@settings(max_examples=12, deadline=None)
@given(
    st.lists(
        st.tuples(st.dictionaries(st.sampled_from("abcdefgh"), st.sampled_from("tuvwxyz"), min_size=1), st.integers(1, 4)),
        min_size=2, max_size=4,
    )
)  # fmt: skip
def test_a_base_finds_every_text_of_the_one_before(history: list[tuple[dict[str, str], int]]) -> None:
    """With any numbers of strides: what is embedded is what the snapshot before has not."""
    with tempfile.TemporaryDirectory() as lake:
        before: set[str] = set()
        for rows, count in history:
            told = Bases(Store(lake), cut(lake, rows, content(1))[0].shard.spec_id)
            for job in cut(lake, rows, content(count)):
                engine = CountingEngine(job.spec)
                run(job.model_copy(update={"reuse": told.of(job.shard)}), engine)
                assert set(engine.seen) <= sequences_of(job, set(rows.values()) - before)
                prove_rows(job, rows_of(job, rows))
            before = set(rows.values())
