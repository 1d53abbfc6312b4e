"""The index: built with little on the disk, changed, mended, published."""

import shutil
from pathlib import Path

import pytest

from embed_assets.index import ann, lance
from embed_assets.index.record import read_record
from embed_assets.index.search import find_tables, published, search_table
from embed_worker.engine.loading import load_model
from embed_worker.lake.files import FileRef
from embed_worker.lake.store import Store
from tests.kits import pipelines as kit
from tests.kits.pipelines import Prepared

pytestmark = pytest.mark.slow


def test_an_index_holds_the_files_of_one_shard_at_a_time(prepared: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    """From an object store they are copied to this machine, whose disk a whole dataset may fill."""
    prepared.embed(2)
    held = []

    def fetch(store: Store, folder: str, file: FileRef, target: Path) -> Path:
        copy = target / f"{len(held)}.parquet"
        shutil.copy(store.path(f"{folder}/{file.path}"), copy)
        held.append(sum(1 for path in Path(store.path(".tmp")).rglob("*.parquet")))
        return copy

    monkeypatch.setattr("embed_assets.index.rows.files.fetch", fetch)
    made = prepared.index()
    assert len(held) == 3 and max(held) == 1
    assert made.record.rows == prepared.raw.rows
    assert prepared.store.list(".tmp") == []


def test_a_table_has_passages_and_columns_and_no_whole_text_in_each_window(lake: Path, tmp_path: Path) -> None:
    words = " ".join(f"word{i}" for i in range(400))
    records = [{"key": "k0", "text": words, "n": 7}, *kit.texts(9, 1)]
    made = Prepared(lake, str(kit.write_jsonl(tmp_path / "s.jsonl", records)), id="{key}")
    made.embed(0)
    made.embed(1)
    made.index(columns={"n": "float64"})
    found = published(made.resource, made.pipeline.embedding, "d")
    assert found is not None
    rows = found.table.to_arrow().to_pylist()
    windows = [row for row in rows if row["id"] == "k0"]
    assert len(windows) > 20 and all(row["n"] == 7.0 for row in windows)
    assert all(row["passage"] == words[row["char_start"] : row["char_end"]] for row in windows)
    assert sum(len(row["passage"]) for row in windows) <= 1.1 * len(words)
    assert {row["id"]: row["n"] for row in rows} == {record["key"]: float(record["n"]) for record in records}
    vector = rows[0]["vector"]
    hits = search_table(found, vector, 10, "n >= 3 AND n < 6")
    assert sorted(hit.id for hit in hits) == ["k3", "k4", "k5"] and hits[0].columns["n"] in (3.0, 4.0, 5.0)


@pytest.mark.parametrize(
    ("columns", "said"),
    [({"stars": "int64"}, "d has no column 'stars'; it has .*n"), ({"key": "int64"}, "key of d is no int64 in the row '0': 'k0'")],
)  # fmt: skip
def test_a_column_that_is_not_there_or_not_of_its_type_is_named(
    prepared: Prepared, columns: dict[str, str], said: str
) -> None:
    with pytest.raises(Exception, match=said):
        prepared.index(columns=columns)
    assert read_record(prepared.store, "d", prepared.pipeline.embedding.spec_id) is None


def test_another_type_is_a_change_of_the_index_alone(prepared: Prepared) -> None:
    first = prepared.index(type="none")
    again = prepared.index(type="none")
    assert first.created and not again.created and again.record == first.record
    other = prepared.index(type="IVF_HNSW_SQ", min_recall=0.5)
    assert other.created and not other.record.rebuilt and (other.record.added, other.record.removed) == (0, 0)
    found = published(prepared.resource, prepared.pipeline.embedding, "d")
    assert found is not None and ann.type_of(found.table) == "IVF_HNSW_SQ"
    assert found.table.count_rows() == prepared.raw.rows


def test_what_others_do_to_the_table_is_not_published(prepared: Prepared) -> None:
    prepared.index()
    spec = prepared.pipeline.embedding
    lance.open_table(prepared.resource, spec.spec_id, "d").delete("id = '3'")
    found = published(prepared.resource, spec, "d")
    assert found is not None and found.table.count_rows() == prepared.raw.rows
    assert not prepared.index().created
    changed = prepared.index(type="IVF_HNSW_SQ", min_recall=0.5)
    assert changed.record.rows == prepared.raw.rows


def test_search_finds_the_very_text(prepared: Prepared) -> None:
    prepared.index()
    [found] = find_tables(prepared.resource, [prepared.pipeline], [])
    model = load_model(found.spec)
    text = kit.texts(20)[7]["text"]
    hits = search_table(found, model.embed_texts([text], "")[0].tolist(), 3)
    assert hits[0].id == "7" and hits[0].score == pytest.approx(1, abs=1e-5)
    assert hits[0].passage.startswith("text number 7")
    assert len({hit.id for hit in hits}) == 3


def test_search_says_what_there_is(prepared: Prepared) -> None:
    with pytest.raises(ValueError, match="materialize it first"):
        find_tables(prepared.resource, [prepared.pipeline], ["d"])
    with pytest.raises(ValueError, match="there are d"):
        find_tables(prepared.resource, [prepared.pipeline], ["nope"])
