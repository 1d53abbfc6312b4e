"""The index: built with little on the disk, mended, searched."""

import shutil
from pathlib import Path

import pytest

from embed_assets.index.search import find_table, search_table
from embed_assets.index.table import open_table
from embed_worker.engine.loading import load_model
from embed_worker.lake.files import FileRef
from embed_worker.lake.store import Store
from tests.kits import pipelines as kit
from tests.kits.pipelines import Prepared


@pytest.mark.slow
def test_an_index_holds_the_files_of_one_shard_at_a_time(prepared: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    """From an object store they are copied to this machine, whose disk a whole dataset may fill."""
    prepared.embed(2)
    held = []

    def fetch(store: Store, folder: str, file: FileRef, target: Path) -> Path:
        copy = target / f"{len(held)}.parquet"
        shutil.copy(store.path(f"{folder}/{file.path}"), copy)
        held.append(sum(1 for path in Path(store.path(".tmp")).rglob("*.parquet")))
        return copy

    monkeypatch.setattr("embed_assets.index.table.files.fetch", fetch)
    prepared.index()
    assert len(held) == 3 and max(held) == 1
    table = open_table(prepared.resource, prepared.pipeline.embedding.spec_id, "d")
    assert table.count_rows() == prepared.raw.rows
    assert prepared.store.list(".tmp") == []


@pytest.mark.slow
def test_a_table_without_its_index_gets_it(prepared: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its process was killed between the two."""
    prepared.index()
    spec_id = prepared.pipeline.embedding.spec_id
    table = open_table(prepared.resource, spec_id, "d")
    assert table.list_indices() == []
    monkeypatch.setattr("embed_assets.index.table.ANN_ROWS", 1)
    prepared.index()
    table = open_table(prepared.resource, spec_id, "d")
    assert [str(found.index_type) for found in table.list_indices()] == ["IvfHnswSq"]
    assert table.count_rows() == prepared.raw.rows


@pytest.mark.slow
def test_search_finds_the_very_text(prepared: Prepared) -> None:
    prepared.index()
    found = find_table(prepared.resource, [prepared.pipeline], None)
    model = load_model(found.spec)
    text = kit.texts(20)[7]["text"]
    hits = search_table(found, model.embed_texts([text], "")[0].tolist(), 3)
    assert hits[0].id == "7" and hits[0].score == pytest.approx(1, abs=1e-5)
    assert hits[0].passage.startswith("text number 7")
    assert len({hit.id for hit in hits}) == 3


@pytest.mark.slow
def test_search_says_what_there_is(prepared: Prepared) -> None:
    with pytest.raises(ValueError, match="materialize it first"):
        find_table(prepared.resource, [prepared.pipeline], "d")
    with pytest.raises(ValueError, match="there are d"):
        find_table(prepared.resource, [prepared.pipeline], "nope")
