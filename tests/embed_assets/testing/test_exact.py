"""`assert_exact` finds whatever is lost, doubled or changed."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embed_assets.testing import assert_exact, materialize
from embed_worker.lake.files import describe
from tests.kits import pipelines as kit
from tests.kits.checked import change_manifest, change_shard


@pytest.fixture
def ready(tmp_path: Path) -> kit.Prepared:
    source = kit.write_jsonl(
        tmp_path / "source.jsonl", [*kit.texts(8), {"key": "long", "text": "words, " * 40, "n": 8}]
    )
    made = kit.Prepared(tmp_path / "lake", str(source))
    for stride in range(3):
        made.embed(stride)
    assert_exact(made.resource, made.pipeline)
    return made


def commit_again(ready: kit.Prepared) -> None:
    """Whoever changed the shard changed its manifest too: digests say nothing then."""
    path = Path(ready.store.path(f"{ready.job(1).shard.folder}/part-00000.parquet"))
    change_manifest(ready, files=[describe(path, path.name, pq.read_metadata(path).num_rows).model_dump()])


def zeros(table: pa.Table) -> pa.Array:
    return pa.array([[0.0] * 32] * table.num_rows, table.schema.field("embedding").type)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda t: t.slice(1), "rows_exact: rows are missing"),
        (lambda t: pa.concat_tables([t, t.slice(0, 1)]), "rows_exact: rows are missing, foreign or doubled: 4 rows"),
        (lambda t: t.set_column(0, t.schema.field("id"), [t["id"].to_pylist()[::-1]]), "rows_exact: rows are missing"),
        (lambda t: t.set_column(1, t.schema.field("text_key"), [t["text_key"][::-1]]), "rows_exact: rows are missing"),
        (lambda t: t.set_column(6, t.schema.field("embedding"), zeros(t)), "are not finite or not of length 1"),
    ],
)
def test_a_change_is_found(ready: kit.Prepared, change: object, told: str) -> None:
    change_shard(ready, lambda table: change(table.combine_chunks()))  # type: ignore[operator]
    commit_again(ready)
    with pytest.raises(AssertionError, match=told):
        assert_exact(ready.resource, ready.pipeline)


def test_a_shard_that_is_not_there_is_found(ready: kit.Prepared) -> None:
    ready.store.delete(ready.job(2).shard.manifest_path)
    with pytest.raises(AssertionError, match=r"^d-00002: is not committed$"):
        assert_exact(ready.resource, ready.pipeline)


@pytest.mark.slow
@settings(max_examples=5, deadline=None)
@given(words=st.lists(st.text(max_size=200), max_size=10), strides=st.integers(1, 3))
def test_whatever_the_texts(words: list[str], strides: int) -> None:
    pipeline = kit.pipeline([kit.dataset("nowhere.jsonl")])
    rows = [{"text": word} for word in ["a", *words]]
    made = materialize(pipeline, rows, strides=strides)
    assert_exact(made.lake, made.pipeline)
    kept = [position for position, row in enumerate(rows) if row["text"].strip()]
    assert {int(found) for found in made.scan().collect()["id"]} <= set(range(len(rows)))
    assert {int(found) for found in made.scan().collect()["id"]} >= {p for p in kept if rows[p]["text"].isalnum()}
