"""docs/after.md: what is exported, what its recipes find, and duplicates."""

import importlib.util
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from typer.testing import CliRunner

from embed_assets.cli.app import app
from embed_assets.index.duplicates import find_duplicates
from embed_assets.index.export import export_dataset
from embed_assets.index.search import published, search_table
from embed_worker.lake.sets import publish_set
from tests.kits import ROOT
from tests.kits import pipelines as kit
from tests.kits.pipelines import Prepared

pytestmark = pytest.mark.slow

RECIPES = dict(re.findall(r"^## (.+?)\n.*?```python\n(.*?)```", (ROOT / "docs/after.md").read_text(), re.M | re.S))
PACKAGES = {"DuckDB": "duckdb", "FAISS": "faiss", "Hugging Face datasets": "datasets", "Qdrant": "qdrant_client"}


@pytest.fixture
def reviews(lake: Path, source: Path) -> Prepared:
    made = Prepared(lake, str(source), name="reviews")
    made.embed(0)
    made.embed(1)
    made.index(columns={"n": "int64"})
    publish_set(made.store, made.set())
    return made


@pytest.mark.parametrize("heading", RECIPES)
def test_a_recipe_finds_what_search_finds(
    reviews: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, heading: str
) -> None:
    package = PACKAGES.get(heading)
    if package is not None and importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed here")
    folder = tmp_path / "there"
    folder.mkdir()
    export_dataset(reviews.resource, reviews.pipeline, "reviews", folder / "reviews-vectors")
    (folder / "lake").symlink_to(reviews.store.root)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    found = published(reviews.resource, reviews.pipeline.embedding, "reviews")
    assert found is not None
    query = np.random.default_rng(0).normal(size=32).tolist()
    names: dict[str, Any] = {"query": query, "spec_id": reviews.pipeline.embedding.spec_id}
    exec(RECIPES[heading], names)  # noqa: S102
    expected = [hit.id for hit in search_table(found, query, 5)]
    assert names["found"] == expected, heading


@pytest.mark.parametrize(("dtype", "kind"), [(None, pa.float32()), ("float16", pa.float16())])
def test_an_export_is_every_vector_with_its_passage_and_columns(
    reviews: Prepared, tmp_path: Path, dtype: Any, kind: pa.DataType
) -> None:
    made = export_dataset(
        reviews.resource, reviews.pipeline, "reviews", tmp_path / "out", dtype=dtype, columns={"n": "int64"}
    )
    table = pq.read_table(made.files)
    assert table.schema.field("vector").type == pa.list_(kind, 32) and made.rows == 20
    rows = {row["id"]: (row["passage"], row["n"]) for row in table.to_pylist()}
    assert rows == {str(i): (record["text"].rstrip(), i) for i, record in enumerate(kit.texts(20))} or rows == {
        str(i): (record["text"], i) for i, record in enumerate(kit.texts(20))
    }
    stored = published(reviews.resource, reviews.pipeline.embedding, "reviews")
    assert stored is not None
    expected = {row["id"]: row["vector"] for row in stored.table.to_arrow().to_pylist()}
    for row in table.to_pylist():
        assert np.allclose(row["vector"], expected[row["id"]], atol=0 if dtype is None else 1e-3)
    card = (tmp_path / "out" / "README.md").read_text()
    head = yaml.safe_load(card.split("---")[1])
    [files] = head["configs"][0]["data_files"]
    assert [str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").glob(files["path"])] == [
        str(p.relative_to(tmp_path / "out")) for p in made.files
    ]
    assert reviews.pipeline.embedding.model in card
    with pytest.raises(FileExistsError, match="is not empty"):
        export_dataset(reviews.resource, reviews.pipeline, "reviews", tmp_path / "out")


def test_equal_texts_and_near_ones_are_told_apart(lake: Path, tmp_path: Path) -> None:
    texts = ["one", "two", "one", "three", "one", "four"]
    source = kit.write_jsonl(tmp_path / "s.jsonl", [{"text": text} for text in texts])
    made = Prepared(lake, str(source))
    made.embed(0)
    made.embed(1)
    made.index()
    found = published(made.resource, made.pipeline.embedding, "d")
    assert found is not None
    exact = find_duplicates(found, 0.99)
    assert (exact.rows, exact.exact_groups, exact.exact_rows, exact.near_rows) == (6, 1, 3, 0)
    assert set(exact.table.column("id").to_pylist()) == {"0", "2", "4"}
    everything = find_duplicates(found, -1.0)
    assert (everything.near_groups, everything.near_rows) == (1, 4), "one of each text"


def test_the_commands_say_what_they_wrote(reviews: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "p.yaml").write_text(yaml.safe_dump(reviews.pipeline.model_dump(mode="json")))
    monkeypatch.setenv("EMBED_PIPELINES", str(tmp_path / "p.yaml"))
    monkeypatch.setenv("EMBED_LAKE", reviews.store.root)
    run = CliRunner().invoke
    done = run(app, ["export", "reviews", "--to", str(tmp_path / "out"), "--no-passages"])
    assert done.exit_code == 0 and "20 vectors in 1 Parquet file" in " ".join(done.output.split())
    assert "passage" not in pq.read_schema(next((tmp_path / "out").rglob("*.parquet"))).names
    again = run(app, ["export", "reviews", "--to", str(tmp_path / "out")])
    assert again.exit_code == 2 and "is not empty" in again.output
    assert run(app, ["export", "nope", "--to", str(tmp_path / "o")]).exit_code == 2
    alike = run(app, ["duplicates", "reviews", "--to", str(tmp_path / "d.parquet")])
    assert alike.exit_code == 0 and "20 rows: 0 with equal texts in 0 groups" in " ".join(alike.output.split())
    assert (tmp_path / "d.parquet").exists()
    shutil.rmtree(Path(reviews.store.root) / "vector_index")
    assert run(app, ["duplicates", "reviews"]).exit_code == 2
