"""A delta: the rows that one snapshot has and the other lacks, whatever their order and their files."""

import random
import tempfile
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from embed_worker.lake.deltas import DeltaManifest
from embed_worker.lake.errors import DamagedData
from embed_worker.lake.layout import WHOLE
from embed_worker.lake.snapshots import RawManifest
from embed_worker.lake.store import Store
from embed_worker.steps import difference
from embed_worker.steps.cut import empty_cut, write_strides
from embed_worker.steps.difference import find_delta, make_delta
from embed_worker.steps.raw import ingest
from embed_worker.steps.rows import part_rows
from tests.kits import pipelines as kit

Row = tuple[str, str]


def snapshot(store: Store, folder: Path, files: list[list[Row]], **spec: Any) -> RawManifest:
    folder.mkdir(exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    for at, rows in enumerate(files):
        kit.write_jsonl(folder / f"{at}.jsonl", [{"key": id_, "text": text} for id_, text in rows])
    changes = {"id": "{key}", **spec}
    return ingest(store, kit.dataset(f"{folder}/*.jsonl", **changes), keep_base=True).manifest


def added(store: Store, delta: DeltaManifest) -> set[Row]:
    found = []
    with store.scratch() as scratch:
        for part in delta.parts:
            for batch in part_rows(store, delta, part, scratch):
                found += zip(batch.column("id").to_pylist(), batch.column("text").to_pylist(), strict=True)
    assert len(set(found)) == len(found) == delta.rows
    return set(found)


def removed(store: Store, delta: DeltaManifest) -> dict[str, int]:
    """Id → row id in the base."""
    if delta.removed is None:
        return {}
    table = pq.read_table(store.path(f"{delta.folder}/{delta.removed.path}"))
    return dict(zip(table.column("id").to_pylist(), table.column("row_id").to_pylist(), strict=True))


ROWS = st.lists(
    st.tuples(st.integers(0, 30).map(str), st.sampled_from(["one", "two", "three"])),
    min_size=1,
    unique_by=lambda r: r[0],
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(old=ROWS, new=ROWS, files=st.tuples(st.integers(1, 4), st.integers(1, 4)), bucket=st.sampled_from([3, 1 << 20]))
def test_the_delta_is_what_a_set_of_rows_says(
    old: list[Row], new: list[Row], files: tuple[int, int], bucket: int
) -> None:
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        patch.setattr(difference, "BUCKET_ROWS", bucket)
        store, source = Store(f"{name}/lake"), Path(name) / "source"
        base = snapshot(store, source, [old[at :: files[0]] for at in range(files[0])], max_rejects=1)
        latest = snapshot(store, source, [new[at :: files[1]] for at in range(files[1])], max_rejects=1)
        delta = make_delta(store, base, latest)
        assert added(store, delta) == set(new) - set(old)
        gone = set(old) - set(new)
        assert set(removed(store, delta)) == {id_ for id_, _ in gone}
        assert delta.rows_removed == len(gone)
        assert delta.rows_changed == len({id_ for id_, _ in gone} & {id_ for id_, _ in new})
        assert (delta.data_version == "empty") == (set(old) == set(new))
        assert find_delta(store, base, latest) == delta
        cut = write_strides(store, delta, WHOLE).manifest
        assert cut.strides[0].digest == delta.rows_digest and cut.rows == delta.rows
        back = make_delta(store, latest, base)
        assert (back.rows, back.rows_digest) == (delta.rows_removed, delta.removed_digest)


def test_rows_that_only_moved_are_no_change(tmp_path: Path) -> None:
    store, source = Store(str(tmp_path / "lake")), tmp_path / "source"
    rows = [(str(i), f"text {i}") for i in range(500)]
    base = snapshot(store, source, [rows])
    random.Random(1).shuffle(rows)
    delta = make_delta(store, base, snapshot(store, source, [rows[:100], rows[100:]]))
    assert (delta.data_version, delta.parts, delta.removed) == ("empty", [], None)
    assert empty_cut(delta).rows == 0


def test_only_parts_that_differ_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, source = Store(str(tmp_path / "lake")), tmp_path / "source"
    files = [[(f"{file}-{i}", f"text {i}") for i in range(50)] for file in range(5)]
    base = snapshot(store, source, files)
    files[3] = files[3][:-1]
    latest = snapshot(store, source, files)
    read = []

    def watched(store: Store, raw: Any, part: Any, *more: Any) -> Any:
        read.append((raw.snapshot, part.source))
        return part_rows(store, raw, part, *more)

    monkeypatch.setattr(difference, "part_rows", watched)
    delta = make_delta(store, base, latest)
    assert (delta.rows, delta.rows_removed) == (0, 1)
    assert {(base.snapshot, 3), (latest.snapshot, 3)} == set(read)


def test_the_row_id_of_a_removed_row_is_the_bases(tmp_path: Path) -> None:
    store, source = Store(str(tmp_path / "lake")), tmp_path / "source"
    twice = [("a", "one"), ("b", "two"), ("a", "three"), ("c", "four"), ("d", "five")]
    base = snapshot(store, source, [twice], max_rejects=1)
    delta = make_delta(store, base, snapshot(store, source, [[("a", "one"), ("b", "two")]]))
    assert removed(store, delta) == {"c": 2, "d": 3}


def test_positions_as_ids_change_where_a_row_is_put_before(tmp_path: Path) -> None:
    store, source = Store(str(tmp_path / "lake")), tmp_path / "source"
    rows = [("", f"text {i}") for i in range(4)]
    base = snapshot(store, source, [rows], id=None)
    delta = make_delta(store, base, snapshot(store, source, [[("", "new"), *rows]], id=None))
    assert (delta.rows, delta.rows_removed, delta.rows_changed) == (5, 4, 4)
    assert added(store, delta) == {("0", "new"), *((str(i + 1), f"text {i}") for i in range(4))}


def test_a_part_that_is_not_what_its_snapshot_says_makes_no_delta(tmp_path: Path) -> None:
    store, source = Store(str(tmp_path / "lake")), tmp_path / "source"
    base = snapshot(store, source, [[("a", "one")], [("b", "two")]])
    latest = snapshot(store, source, [[("a", "one")], [("b", "three")]])
    lie = base.model_copy(update={"rows_digest": "0" * 32})
    with pytest.raises(DamagedData, match=r"the parts of d are not what their snapshots say.*with `force`"):
        make_delta(store, lie, latest)
