"""A range of a source is read once: what an earlier snapshot or a killed ingest has is found, the rest is made."""

import json
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.local import LocalFileSystem

from embed_worker.lake import failpoints, layout
from embed_worker.lake.store import Store
from embed_worker.steps import pool
from embed_worker.steps.raw import ingest
from tests.kits import pipelines as kit


def settled(path: Path) -> Path:
    """As a file is that was written a while ago."""
    os.utime(path, (1_700_000_000, 1_700_000_000))
    return path


class Opened(Counter[str]):
    """Bytes read of the files of a folder, through the file system, by name."""


@pytest.fixture
def read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Opened:
    found = Opened()
    original = LocalFileSystem.open

    def counting(self: LocalFileSystem, path: str, mode: str = "rb", **options: Any) -> Any:
        file = original(self, path, mode, **options)
        if Path(path).parent == tmp_path / "in" and mode == "rb":
            return _Counted(file, found, Path(path).name)
        return file

    monkeypatch.setattr(LocalFileSystem, "open", counting)
    (tmp_path / "in").mkdir()
    return found


class _Counted:
    def __init__(self, file: Any, found: Opened, name: str) -> None:
        self._file, self._found, self._name = file, found, name
        found[name] += 0

    def read(self, size: int = -1) -> bytes:
        data: bytes = self._file.read(size)
        self._found[self._name] += len(data)
        return data

    def __enter__(self) -> "_Counted":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def lines(folder: Path, name: str, count: int, start: int = 0) -> Path:
    return settled(kit.write_jsonl(folder / "in" / f"{name}.jsonl", kit.texts(count, start)))


def test_a_new_file_beside_old_ones_costs_its_own_bytes(tmp_path: Path, store: Store, read: Opened) -> None:
    for at in range(20):
        lines(tmp_path, f"{at:02d}", 50, 50 * at)
    described = kit.dataset(str(tmp_path / "in" / "*.jsonl"), id="{key}")
    first = ingest(store, described).manifest
    assert set(read) == {f"{at:02d}.jsonl" for at in range(20)}
    read.clear()
    new = lines(tmp_path, "20", 50, 1000)
    second = ingest(store, described)
    assert second.created and second.manifest.rows == 1050
    assert set(read) == {"20.jsonl"}
    assert read["20.jsonl"] <= 3 * new.stat().st_size, "its head, and its bytes"
    assert second.manifest.parts[:20] == first.parts
    read.clear()
    assert not ingest(store, described).created
    assert not read, "unchanged files are not opened"


def test_files_that_were_touched_or_moved_are_read_once_more_and_then_known(
    tmp_path: Path, store: Store, read: Opened
) -> None:
    """They give the snapshot that is there, whose manifest has their old names and times."""
    for at in range(3):
        lines(tmp_path, f"{at:02d}", 50, 50 * at)
    described = kit.dataset(str(tmp_path / "in" / "*.jsonl"), id="{key}")
    first = ingest(store, described).manifest
    path = tmp_path / "in" / "01.jsonl"
    os.utime(path, (path.stat().st_mtime - 60, path.stat().st_mtime - 60))
    (tmp_path / "in" / "02.jsonl").rename(tmp_path / "in" / "03.jsonl")
    for opened in ({"01.jsonl", "03.jsonl"}, set[str](), set[str]()):
        read.clear()
        assert ingest(store, described).manifest == first
        assert set(read) == opened
    lines(tmp_path, "04", 50, 500)
    read.clear()
    assert ingest(store, described).manifest.rows == 200 and set(read) == {"04.jsonl"}


def test_a_file_changed_within_a_tick_of_its_clock_is_looked_into(tmp_path: Path, store: Store, read: Opened) -> None:
    """A time proves nothing of a file that is as young as the clock is coarse."""
    path = kit.write_jsonl(tmp_path / "in" / "s.jsonl", kit.texts(5))
    first = ingest(store, kit.dataset(str(path))).manifest
    at = path.stat().st_mtime_ns
    path.write_bytes(path.read_bytes().replace(b"number 3", b"number 7"))
    os.utime(path, ns=(at, at))
    assert ingest(store, kit.dataset(str(path))).manifest.snapshot != first.snapshot


def test_of_a_grown_file_only_what_is_new_is_parsed(
    tmp_path: Path, store: Store, read: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("embed_worker.steps.ranges.RANGE_BYTES", 1000)
    path = lines(tmp_path, "s", 100)
    first = ingest(store, kit.dataset(str(path), id="{key}")).manifest
    assert len(first.parts) > 5
    with path.open("ab") as file:
        file.write(b"".join(json.dumps(record).encode() + b"\n" for record in kit.texts(10, 100)))
    parsed: list[int] = []
    from embed_worker.steps import parts

    original = parts.parse

    def counting(*arguments: Any, **options: Any) -> Iterator[Any]:
        parsed.append(len(arguments[3]))
        return original(*arguments, **options)

    monkeypatch.setattr(parts, "parse", counting)
    second = ingest(store, kit.dataset(str(path), id="{key}")).manifest
    assert second.rows == 110
    assert second.parts[: len(first.parts) - 1] == first.parts[:-1]
    assert len(parsed) <= 2 and sum(parsed) < 2500
    # What was before stays what it is only where its bytes do.
    path.write_bytes(path.read_bytes().replace(b"number 3,", b"number 7,"))
    third = ingest(store, kit.dataset(str(path), id="{key}")).manifest
    assert third.parts[0].part_id != second.parts[0].part_id
    assert "text number 7," in kit.raw_rows(store, third)[3]["text"]


def test_a_killed_ingest_goes_on_at_the_missing_parts(
    tmp_path: Path, store: Store, lake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in").mkdir()
    monkeypatch.setattr("embed_worker.steps.ranges.RANGE_BYTES", 500)
    path = lines(tmp_path, "s", 60)
    described = kit.dataset(str(path), id="{key}")
    whole = ingest(Store(f"{lake}-whole"), described).manifest
    for name in ("raw.parsed", "raw.data", "raw.part"):
        left = [3]

        def reach(place: str, name: str = name, left: list[int] = left) -> None:
            if place == name:
                left[0] -= 1
                if left[0] == 0:
                    raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(failpoints, "reach", reach)
            with pytest.raises(KeyboardInterrupt):
                ingest(store, described)
        assert kit.manifests(lake) == []
        made = {p: p.stat().st_mtime_ns for p in lake.rglob("parts/*.json")}
        assert made
    again = ingest(store, described)
    assert again.created
    assert {p: p.stat().st_mtime_ns for p in made} == made, "a part that is there is not made again"
    assert [(p.part_id, p.rows, p.digest) for p in again.manifest.parts] == [
        (p.part_id, p.rows, p.digest) for p in whole.parts
    ]


def test_two_code_locations_with_other_filters_keep_their_own_rows(tmp_path: Path, store: Store) -> None:
    source = kit.write_jsonl(tmp_path / "s.jsonl", [{**row, "odd": row["n"] % 2} for row in kit.texts(400)])
    mine, theirs = kit.dataset(str(source)), kit.dataset(str(source), where={"odd": 1})
    for _ in range(2):
        assert ingest(store, mine).manifest.rows == 400
        assert ingest(store, theirs).manifest.rows == 200
    for described, rows in ((mine, 400), (theirs, 200)):
        pointer = json.loads(store.read(layout.raw_base("d", described.ingest_id)))["snapshot"]
        at = json.loads(store.read(layout.snapshot_file("d", described.ingest_id, pointer)))
        assert at["rows"] == rows


def test_a_sample_is_the_beginning_of_all(tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("embed_worker.steps.ranges.RANGE_BYTES", 500)
    source = kit.write_jsonl(tmp_path / "s.jsonl", kit.texts(60))
    sample = ingest(store, kit.dataset(str(source), rows={"end": 25})).manifest
    whole = ingest(store, kit.dataset(str(source))).manifest
    assert sample.ingest_id == whole.ingest_id
    shared = [a.part_id for a, b in zip(sample.parts, whole.parts, strict=False) if a.part_id == b.part_id]
    assert len(shared) == len(sample.parts) - 1, "all but the part that the sample cuts through"
    assert kit.raw_rows(store, sample) == kit.raw_rows(store, whole)[:25]


def test_groups_of_parquet_are_parts(tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("embed_worker.steps.ranges.GROUPS_BYTES", 2000)
    path = tmp_path / "s.parquet"
    pq.write_table(pa.Table.from_pylist(kit.texts(100)), path, row_group_size=10)
    made = ingest(store, kit.dataset(str(path))).manifest
    assert 2 < len(made.parts) < 10
    rows = kit.raw_rows(store, made)
    assert [(row["row_id"], row["id"], row["text"]) for row in rows] == [
        (i, str(i), record["text"]) for i, record in enumerate(kit.texts(100))
    ]
    assert (made.accounts[0].total, made.accounts[0].accounted, made.accounts[0].whole) == (100, 100, True)


def test_ranges_are_read_side_by_side_where_that_is_worth_it(
    tmp_path: Path, store: Store, lake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("embed_worker.steps.ranges.RANGE_BYTES", 2000)
    source = kit.write_jsonl(tmp_path / "s.jsonl", kit.texts(300))
    alone = ingest(Store(f"{lake}-alone"), kit.dataset(str(source), id="{key}")).manifest
    monkeypatch.setattr(pool, "WORTH_BYTES", 1)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    together = ingest(store, kit.dataset(str(source), id="{key}")).manifest
    assert [p.part_id for p in together.parts] == [p.part_id for p in alone.parts]
    assert together.digest == alone.digest
    assert kit.raw_rows(store, together) == kit.raw_rows(Store(f"{lake}-alone"), alone)
