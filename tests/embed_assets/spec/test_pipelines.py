"""Several pipelines in one deployment."""

from pathlib import Path
from typing import Any

import pytest

from embed_assets.deployment import deployed
from embed_assets.settings import Settings
from embed_assets.spec import SpecError, load_pipelines
from tests.kits import ROOT
from tests.kits import pipelines as kit
from tests.kits.pipeline_files import pipeline_file


def test_two_pipelines_may_share_a_dataset_that_they_ingest_alike(tmp_path: Path) -> None:
    one = pipeline_file(tmp_path, name="one.yaml")
    same = pipeline_file(tmp_path, {"name": "q", "datasets.0.strides": 9, "embedding.pooling": "cls"}, "two.yaml")
    first, second = load_pipelines([one, same])
    assert (first.name, second.name) == ("p", "q")
    assert first.embedding.spec_id != second.embedding.spec_id


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"datasets.0.text": "{t}!"}, "text"),
        ({"datasets.0.source": "b.csv"}, "source"),
        ({"datasets.0.where": {"a": 1}}, "where"),
        ({"datasets.0.rows": {"end": 3}}, "rows"),
        ({"datasets.0.format": "csv", "datasets.0.id": "{t}"}, "format, id"),
    ],
)
def test_two_pipelines_that_ingest_a_dataset_unlike_are_refused(
    tmp_path: Path, change: dict[str, Any], key: str
) -> None:
    one, two = pipeline_file(tmp_path, name="one.yaml"), pipeline_file(tmp_path, {"name": "q", **change}, "two.yaml")
    with pytest.raises(SpecError) as caught:
        load_pipelines([one, two])
    assert str(one) in str(caught.value)
    assert str(two) in str(caught.value)
    assert f"differ in {key};" in str(caught.value)


def test_two_pipelines_of_one_name_are_refused(tmp_path: Path) -> None:
    one = pipeline_file(tmp_path, name="one.yaml")
    two = pipeline_file(tmp_path, {"datasets.0.name": "e"}, "two.yaml")
    with pytest.raises(SpecError, match="both name their pipeline 'p'"):
        load_pipelines([one, two])


def test_the_pipelines_of_the_repository_load_and_make_definitions() -> None:
    found = load_pipelines(sorted((ROOT / "pipelines").glob("*.yaml")))
    assert {"demo", "amazon_books"} <= {pipeline.name for pipeline in found}
    definitions = deployed(found, Settings())
    assert len(definitions.resolve_asset_graph().materializable_asset_keys) == 4 * len(found)
    books = next(pipeline for pipeline in found if pipeline.name == "amazon_books")
    assert (books.datasets[0].strides, books.embedding.attention, books.embedding.pooling) == (
        500,
        "bidirectional",
        "last",
    )
    assert books.embedding.revision


@pytest.mark.parametrize(
    "change", [{"strides": 9}, {"partitioning": "contiguous"}, {"source": "b"}, {"storage_options": {"anon": True}}]
)
def test_how_rows_are_cut_is_no_part_of_the_ingest(change: dict[str, Any]) -> None:
    assert kit.dataset(**{"source": "a", **change}).ingest_identity() == kit.dataset("a").ingest_identity()
