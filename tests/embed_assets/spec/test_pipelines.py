"""Several pipelines in one deployment."""

from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from embed_assets import build_assets
from embed_assets.deployment import deployed, load_deployment
from embed_assets.settings import Settings
from embed_assets.spec import SpecError, load_pipelines
from tests.kits import ROOT
from tests.kits import pipelines as kit
from tests.kits.pipeline_files import pipeline_file, pipeline_yaml


def test_two_pipelines_of_one_dataset_are_refused(tmp_path: Path) -> None:
    one, two = pipeline_file(tmp_path, name="one.yaml"), pipeline_file(tmp_path, {"name": "q"}, "two.yaml")
    with pytest.raises(SpecError, match="both have a dataset 'd'; give it another name") as caught:
        load_pipelines([one, two])
    assert str(one) in str(caught.value)
    assert str(two) in str(caught.value)


def test_one_bad_file_takes_no_other_down(tmp_path: Path) -> None:
    good = pipeline_file(tmp_path, name="good.yaml")
    bad = pipeline_file(tmp_path, {"embeddin": 1}, "bad.yaml")
    definitions = load_deployment(Settings(pipelines=f"{good},{bad}"))
    graph = definitions.resolve_asset_graph()
    assert dg.AssetKey(["p", "embedding_shards"]) in graph.get_all_asset_keys()
    told = graph.get(dg.AssetKey(["not_loaded", "bad"]))
    assert str(bad) in told.description and "embeddin" in told.description
    assert told.metadata["dagster/code_references"].code_references[0].file_path == str(bad)
    with pytest.raises(SpecError, match="embeddin"):
        load_deployment(Settings(pipelines=str(bad)))


def test_bad_files_of_one_name_in_two_folders_take_nothing_down(tmp_path: Path) -> None:
    good = pipeline_file(tmp_path, name="good.yaml")
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        pipeline_file(tmp_path / folder, {"embeddin": 1}, "bad.yaml")
    definitions = load_deployment(Settings(pipelines=f"{good},{tmp_path}/*/bad.yaml"))
    keys = definitions.resolve_asset_graph().get_all_asset_keys()
    assert {key.path[-2] for key in keys if key.path[0] == "not_loaded"} == {"one", "two"}


def test_each_asset_leads_to_its_pipeline_in_its_file(tmp_path: Path) -> None:
    files = {name: tmp_path / f"{name}.yaml" for name in "pq"}
    for name, file in files.items():
        text = pipeline_yaml({"name": name, "datasets.0.name": name})
        file.write_text(f"# {name}\n\n{text}" if name == "q" else text)
    definitions = load_deployment(Settings(pipelines=f"{tmp_path}/*.yaml"))
    lines = {"p": 1, "q": 3}
    found = {
        key: definitions.resolve_assets_def(key).metadata_by_key[key]["dagster/code_references"].code_references
        for key in definitions.resolve_asset_graph().get_all_asset_keys()
    }
    assert len(found) == 10
    for key, references in found.items():
        (one,) = references
        assert (one.file_path, one.line_number) == (str(files[key.path[0]]), lines[key.path[0]])
    for asset in build_assets(files["q"]):
        (one,) = asset.metadata_by_key[asset.key]["dagster/code_references"].code_references
        assert (one.file_path, one.line_number) == (str(files["q"]), 3)


def test_two_pipelines_of_one_name_are_refused(tmp_path: Path) -> None:
    one = pipeline_file(tmp_path, name="one.yaml")
    two = pipeline_file(tmp_path, {"datasets.0.name": "e"}, "two.yaml")
    with pytest.raises(SpecError, match="both name their pipeline 'p'"):
        load_pipelines([one, two])


def test_the_pipelines_of_the_repository_load_and_make_definitions() -> None:
    found = load_pipelines(sorted((ROOT / "pipelines").glob("*.yaml")))
    assert {"demo", "amazon_books"} <= {pipeline.name for pipeline in found}
    definitions = deployed(found, Settings())
    assert len(definitions.resolve_asset_graph().materializable_asset_keys) == 5 * len(found)
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
