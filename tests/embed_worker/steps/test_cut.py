"""The cut: every row in exactly one stride, whatever the method, the number and the parts; only what is missing is made."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from embed_worker.lake import layout
from embed_worker.lake import strides as strides_module
from embed_worker.lake.errors import DamagedData
from embed_worker.lake.identity import KEY_TYPE, RowsDigest, rows_digest, text_keys
from embed_worker.lake.layout import Partitioning
from embed_worker.lake.manifests import SliceManifest, StridesManifest, read_manifest
from embed_worker.lake.store import Store
from embed_worker.lake.strides import bring
from embed_worker.steps import cut as cut_module
from embed_worker.steps.cut import write_strides
from embed_worker.steps.raw import ingest
from embed_worker.steps.spans import spans_of
from tests.kits import pipelines as kit

Row = tuple[str, str]


class Snapshot:
    """A snapshot's parts in memory; `part_rows` is told to read them."""

    dataset, ingest_id = "d", "1f" * 6

    def __init__(self, parts: list[list[Row]], snapshot: str = "0a1b2c3d4e5f") -> None:
        self.snapshot, self.contents = snapshot, parts
        self.rows = sum(map(len, parts))
        everything = [row for part in parts for row in part]
        keys = text_keys([text for _, text in everything])
        self.rows_digest = str(rows_digest([id_ for id_, _ in everything], keys))
        firsts = np.cumsum([0, *map(len, parts)])
        self.parts = [Part(rows, int(first)) for rows, first in zip(parts, firsts[:-1], strict=True)]
        self.read: list[str] = []


class Part:
    def __init__(self, rows: list[Row], first: int) -> None:
        self.content, self.rows, self.first_row = rows, len(rows), first
        self.identity = repr(rows)


@pytest.fixture(autouse=True)
def in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    real = cut_module.part_rows

    def part_rows(store: Store, raw: Any, part: Any, scratch: Path) -> Iterator[pa.RecordBatch]:
        if not isinstance(raw, Snapshot):
            yield from real(store, raw, part, scratch)
            return
        raw.read.append(part.identity)
        ids, texts = [id_ for id_, _ in part.content], [text for _, text in part.content]
        yield pa.record_batch(
            [
                pa.array(range(part.first_row, part.first_row + part.rows), pa.int64()),
                pa.array(ids, pa.string()), pa.array(texts, pa.string()), pa.array(text_keys(texts), KEY_TYPE),
            ],
            names=["row_id", "id", "text", "text_key"],
        )  # fmt: skip

    monkeypatch.setattr(cut_module, "part_rows", part_rows)


def cut_of(store: Store, raw: Snapshot, partitioning: Partitioning) -> StridesManifest:
    return write_strides(store, raw, partitioning).manifest  # type: ignore[arg-type]


def rows_of(store: Store, cut: StridesManifest, stride: int) -> list[Row]:
    with store.scratch() as scratch:
        found = bring(store, spans_of(store, cut)[stride], scratch)
        entry = cut.strides[stride]
        found.prove(RowsDigest.parse(entry.rows, entry.digest))
        tables = list(found.tables(7))
    assert all(table.num_rows == 7 for table in tables[:-1])
    return [(row["id"], row["text"]) for table in tables for row in table.to_pylist()]


def snapshot_rows(count: int, parts: int, texts: int = 10**6) -> list[list[Row]]:
    rows = [(f"k{i}", f"text {i % texts} é") for i in range(count)]
    return [[rows[i] for i in ids] for ids in np.array_split(np.arange(count), parts)]


def in_order(rows: list[Row]) -> list[Row]:
    keys = text_keys([text for _, text in rows])
    return [row for _, _, row in sorted((key, row[0].encode(), row) for key, row in zip(keys, rows, strict=True))]


@given(
    rows=st.integers(1, 300),
    count=st.integers(1, 40),
    method=st.sampled_from(["content", "stride", "contiguous"]),
    parts=st.integers(1, 4),
    texts=st.sampled_from([1, 3, 10**6]),
    whole=st.booleans(),
)
@example(rows=300, count=500, method="content", parts=1, texts=10**6, whole=True)
@example(rows=3, count=100, method="contiguous", parts=3, texts=1, whole=False)
@example(rows=1, count=1, method="stride", parts=1, texts=1, whole=False)
@hypothesis_settings(max_examples=30)
def test_every_row_is_in_exactly_one_stride(
    tmp_path_factory: pytest.TempPathFactory, rows: int, count: int, method: Any, parts: int, texts: int, whole: bool
) -> None:
    store = Store(str(tmp_path_factory.mktemp("lake")))
    raw = Snapshot(snapshot_rows(rows, min(parts, rows), texts))
    partitioning = Partitioning(method, count)
    with pytest.MonkeyPatch.context() as patch:
        if not whole:
            patch.setattr(strides_module, "WHOLE_BYTES", 0)
            patch.setattr(cut_module, "BATCH_ROWS", 3)
        cut = cut_of(store, raw, partitioning)
        found = [rows_of(store, cut, stride) for stride in range(count)]
    everything = [row for part in raw.contents for row in part]
    assert sorted(row for stride in found for row in stride) == sorted(everything)
    for stride, have in enumerate(found):
        assert have == in_order(have)
        if method == "stride":
            assert sorted(have) == sorted(everything[stride::count])
        elif method == "contiguous":
            assert sorted(have) == sorted(everything[stride * rows // count : (stride + 1) * rows // count])
        assert cut.strides[stride].rows == len(have)
        assert cut.strides[stride].digest == str(rows_digest([i for i, _ in have], text_keys([t for _, t in have])))
    if method == "content":
        assert len({(stride, text) for stride, have in enumerate(found) for _, text in have}) == len(
            {text for _, text in everything}
        ), "one text in two strides"
    assert list(store.walk(".tmp")) == [] if store.list(".tmp") else True


def test_a_stride_whose_rows_stay_keeps_its_digest_whatever_else_changes(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    parts = snapshot_rows(400, 4)
    before = cut_of(store, Snapshot(parts), Partitioning("content", 50))
    changed = [*parts[:2], [*parts[2][:-1], ("new", "a text that is new")], parts[3]]
    after_raw = Snapshot(changed, "f" * 12)
    after = cut_of(store, after_raw, Partitioning("content", 50))
    differ = [s for s in range(50) if before.strides[s].digest != after.strides[s].digest]
    assert 1 <= len(differ) <= 2
    assert after_raw.read == [repr(changed[2])], "an unchanged part was cut again"
    moved = cut_of(store, Snapshot([*parts[2:], *parts[:2]], "e" * 12), Partitioning("content", 50))
    assert [s.digest for s in moved.strides] == [s.digest for s in before.strides]


def test_what_is_there_is_adopted(tmp_path: Path) -> None:
    store, raw = Store(str(tmp_path)), Snapshot(snapshot_rows(30, 3))
    first = write_strides(store, raw, Partitioning("stride", 4))  # type: ignore[arg-type]
    again = write_strides(store, raw, Partitioning("stride", 4))  # type: ignore[arg-type]
    assert first.created and not again.created and again.manifest == first.manifest
    assert len(raw.read) == 3


def test_only_missing_slices_are_made(tmp_path: Path) -> None:
    store, raw, partitioning = Store(str(tmp_path)), Snapshot(snapshot_rows(30, 3)), Partitioning("content", 4)
    cut = cut_of(store, raw, partitioning)
    store.delete(layout.cut_file(cut.folder, raw.snapshot))
    store.delete(layout.slice_file(cut.folder, cut.slices[1]))
    raw.read.clear()
    again = cut_of(store, raw, partitioning)
    assert raw.read == [raw.parts[1].identity]
    assert [s.digest for s in again.strides] == [s.digest for s in cut.strides]


def test_a_damaged_commit_of_a_slice_is_made_anew(tmp_path: Path) -> None:
    store, raw, partitioning = Store(str(tmp_path)), Snapshot(snapshot_rows(30, 3)), Partitioning("content", 4)
    cut = cut_of(store, raw, partitioning)
    store.delete(layout.cut_file(cut.folder, raw.snapshot))
    (tmp_path / layout.slice_file(cut.folder, cut.slices[2])).write_bytes(b"{")
    assert cut_of(store, raw, partitioning).strides == cut.strides


@pytest.mark.parametrize("claims", [True, False])
def test_runs_that_begin_together_cut_each_part_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, claims: bool
) -> None:
    if not claims:  # the test can fail: without claims each cuts all
        monkeypatch.setattr("embed_worker.steps.claims.Claims.take", lambda *_: True)
    store, raw = Store(str(tmp_path)), Snapshot(snapshot_rows(60, 6))
    begin, made = threading.Barrier(4), list[StridesManifest]()
    real = cut_module._Cut._make

    def together(self: Any, name: str, part: Any) -> SliceManifest:
        threading.Event().wait(0.1)
        return real(self, name, part)

    monkeypatch.setattr(cut_module._Cut, "_make", together)

    def run() -> None:
        begin.wait()
        made.append(cut_of(store, raw, Partitioning("content", 5)))

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 4 and len({str(m.slices) for m in made}) == 1
    assert (len(raw.read) == 6) is claims
    files = [name for name in store.list(f"{made[0].folder}/slices") if name.endswith(".arrow")]
    assert len(files) == 6, "a loser's slice is left"


def test_a_claim_of_the_dead_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("embed_worker.steps.claims.PATIENCE", 0.1)
    store, raw, partitioning = Store(str(tmp_path)), Snapshot(snapshot_rows(30, 2)), Partitioning("content", 4)
    folder = layout.strides_folder("d", raw.ingest_id, partitioning)
    for part in raw.parts:
        name = cut_module.slice_id(raw, part, partitioning)  # type: ignore[arg-type]
        store.create(f"{folder}/slices/{name}.claim", b"of one that was killed")
    assert cut_of(store, raw, partitioning).rows == 30


def test_an_uneven_cut_is_told(tmp_path: Path) -> None:
    raw = Snapshot([[(f"k{i}", "the same text" if i % 2 else f"text {i}") for i in range(400)]])
    warnings = cut_of(Store(str(tmp_path)), raw, Partitioning("content", 20)).warnings
    assert len(warnings) == 1 and "`partitioning: stride` cuts evenly" in warnings[0]
    assert not cut_of(Store(str(tmp_path)), raw, Partitioning("stride", 20)).warnings


@pytest.mark.parametrize("fault", ["missing", "cut", "changed"])
def test_damage_of_a_slice_is_told(tmp_path: Path, fault: str) -> None:
    store, raw = Store(str(tmp_path)), Snapshot(snapshot_rows(200, 2))
    cut = cut_of(store, raw, Partitioning("content", 2))
    made = read_manifest(store, layout.slice_file(cut.folder, cut.slices[0]), SliceManifest)
    assert made is not None
    path = tmp_path / cut.folder / made.file.path
    data = path.read_bytes()
    path.unlink()
    if fault == "cut":
        path.write_bytes(data[: len(data) // 3])
    elif fault == "changed":
        at = int(made.lines["offset"][0] + made.lines["length"][0] // 2)
        path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    with pytest.raises(DamagedData, match=made.file.path):
        rows_of(store, cut, 0)


def test_a_slice_is_an_arrow_file(tmp_path: Path) -> None:
    store, raw = Store(str(tmp_path)), Snapshot(snapshot_rows(50, 1))
    cut = cut_of(store, raw, Partitioning("content", 3))
    [file] = [name for name in store.list(f"{cut.folder}/slices") if name.endswith(".arrow")]
    with pa.ipc.open_file(store.path(f"{cut.folder}/slices/{file}")) as opened:
        assert opened.read_all().num_rows == 50


def test_a_whole_pipeline_is_cut(tmp_path: Path) -> None:
    source = kit.write_jsonl(tmp_path / "a.jsonl", kit.texts(20))
    assert sum(s.rows for s in kit.Prepared(tmp_path / "lake", str(source)).strides.strides) == 20


def test_a_part_without_rows_has_no_slice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("embed_worker.steps.parse.PART_BYTES", 1)
    sources = [kit.write_jsonl(tmp_path / f"{at}.jsonl", [{"text": text}]) for at, text in enumerate(["a", " ", "b"])]
    store = Store(str(tmp_path / "lake"))
    raw = ingest(store, kit.dataset([str(path) for path in sources])).manifest
    made = write_strides(store, raw, Partitioning("content", 3)).manifest
    assert [part.rows for part in raw.parts] == [1, 0, 1] and len(made.slices) == 2 and made.rows == 2
