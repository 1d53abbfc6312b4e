"""EmbeddingPipelineComponent in a defs folder, as Dagster loads it."""

import tomllib
from typing import Any

import dagster as dg
import pytest
from dagster.components.core.package_entry import DG_PLUGIN_ENTRY_POINT_GROUP, get_package_objects_in_module

import embed_assets
from embed_assets import SpecError
from embed_assets.component import PipelineAttributes
from tests.kits import ROOT
from tests.kits.defs_folder import DEPLOYMENT, DefsFolder, cause, defs_yaml

VECTORS = dg.AssetKey(["p", "embedding_shards"])


def load(files: dict[str, str]) -> None:
    with DefsFolder(files, deployment=False).loaded() as (defs, _):
        dg.Definitions.validate_loadable(defs)


def fault(text: str) -> str:
    """What is told of a defs.yaml, without its folder."""
    with pytest.raises(Exception) as caught, DefsFolder({"p": text}).loaded():
        pass
    told = cause(caught.value)
    assert told.startswith("/"), told
    return "\n".join(line[line.index("defs.yaml") :] for line in told.splitlines())


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"datasets.0.stride": 4}, "defs.yaml:6: attributes.datasets.0.stride: unknown key; did you mean 'strides'?"),
        ({"datasets.0.strides": "{{ 'many' }}"}, "attributes.datasets.0.strides: should be a valid integer (got 'many')"),
        ({"embedding.pooling": "max"}, "attributes.embedding.pooling: should be 'mean', 'cls' or 'last' (got 'max')"),
        ({"name": None}, "defs.yaml:2: attributes.name: is required"),
        ({"datasets.0.text": "no column"}, "attributes.datasets.0.text: template 'no column' names no column"),
        ({"datasets.0.source": "{{ nosuch }}"}, "datasets.0.source: '{{ nosuch }}' cannot be resolved: 'nosuch' is undefined"),
        ({"translation": {"grup": "x"}}, "attributes.translation.grup: unknown key; did you mean 'group'?"),
        ({"op": {"steps": {"embeding_shards": {}}}}, "attributes.op.steps.embeding_shards"),
    ],
)  # fmt: skip
def test_a_fault_names_file_line_and_key(changes: dict[str, Any], says: str) -> None:
    told = fault(defs_yaml(changes))
    assert says in told and "\n" not in told, told


def test_a_key_that_is_there_twice_is_a_fault() -> None:
    assert "key 'strides' is there twice" in fault(
        defs_yaml().replace("    strides: 2\n", "    strides: 2\n    strides: 3\n")
    )


def test_no_attributes_are_a_fault_of_a_pipeline() -> None:
    assert "attributes.name: is required" in fault("type: embed_assets.EmbeddingPipelineComponent\n")


def test_a_second_document_is_a_pipeline_of_its_own() -> None:
    second = defs_yaml({"name": "q", "datasets.0.name": "e"})
    with DefsFolder({"p": f"{defs_yaml()}---\n{second}"}).loaded() as (defs, _):
        assert {key.path[0] for key in defs.resolve_asset_graph().get_all_asset_keys()} == {"p", "q"}
    assert "defs.yaml:27: attributes.name" in fault(f"{defs_yaml()}---\n{second.replace('name: q', 'name: 1')}")


def test_an_asset_leads_to_its_line_in_the_file() -> None:
    with DefsFolder({"p": "# a comment\n" + defs_yaml()}).loaded() as (defs, folder):
        metadata = defs.resolve_assets_def(VECTORS).metadata_by_key[VECTORS]
        (reference,) = metadata["dagster/code_references"].code_references
        assert (reference.file_path, reference.line_number) == (str(folder / "p" / "defs.yaml"), 2)


def test_post_processing_comes_after_translation() -> None:
    more = """
post_processing:
  assets:
    - target: "key:search/p/vectors"
      attributes: {group_name: gpus, tags: {tier: high}, owners: ["team:gpu"], automation_condition: "{{ dg.AutomationCondition.eager() }}"}
"""
    translation = {
        "key_prefix": "search",
        "names": {"embedding_shards": "vectors"},
        "tags": {"team": "x"},
        "group": "all",
    }
    with DefsFolder({"p": defs_yaml({"translation": translation}, more)}).loaded() as (defs, _):
        graph = defs.resolve_asset_graph()
        vectors, raw = (graph.get(dg.AssetKey(["search", "p", name])) for name in ("vectors", "raw_reviews"))
        assert (vectors.group_name, vectors.tags, vectors.owners) == (
            "gpus",
            {"embed/pipeline": "p", "team": "x", "tier": "high"} | kinds(vectors),
            ["team:gpu"],
        )
        assert vectors.automation_condition is not None and raw.automation_condition is None
        assert (raw.group_name, raw.tags, raw.owners) == ("all", {"embed/pipeline": "p", "team": "x"} | kinds(raw), [])


def kinds(node: Any) -> dict[str, str]:
    return {key: value for key, value in node.tags.items() if key.startswith("dagster/kind/")}


def test_a_location_has_its_resources_from_the_second_component_or_from_itself() -> None:
    with pytest.raises(dg.DagsterInvalidDefinitionError, match=r"resource with key '(lake|compute)'"):
        load({"p": defs_yaml()})
    load({"p": defs_yaml(), "deployment": DEPLOYMENT})
    with DefsFolder({}).loaded() as (defs, _):
        assert set(defs.resources or {}) == {"lake", "compute"} and not defs.assets
        assert defs.executor is dg.in_process_executor


def test_two_components_do_not_share_a_dataset() -> None:
    load_both = {"p": defs_yaml(), "q": defs_yaml({"name": "q", "datasets.0.name": "other"})}
    with DefsFolder(load_both).loaded() as (defs, _):
        assert len({key.path[0] for key in defs.resolve_asset_graph().get_all_asset_keys()}) == 2
    with pytest.raises(Exception) as caught, DefsFolder(load_both | {"q": defs_yaml({"name": "q"})}).loaded():
        pass
    told = cause(caught.value)
    assert "/p/defs.yaml" in told and "/q/defs.yaml" in told and "both have a dataset 'd'" in told


def test_it_is_made_in_python_too() -> None:
    from embed_assets.component import EmbeddingPipelineComponent
    from tests.kits import pipelines as kit

    component = EmbeddingPipelineComponent(kit.pipeline([kit.dataset("a.csv")]))
    defs = component.build_defs(dg.ComponentTree.for_test().load_context)
    assert VECTORS in {
        key for asset in defs.assets or [] if isinstance(asset, dg.AssetsDefinition) for key in asset.keys
    }
    made = EmbeddingPipelineComponent.from_attributes_dict(attributes={"name": "p", "datasets": [{"name": "d", "source": "a.csv", "text": "{{x}} {t}", "strides": 2}], "embedding": kit.HASH})  # fmt: skip
    assert made.pipeline.datasets[0].source == "a.csv" and made.pipeline.datasets[0].text == "{{x}} {t}"
    with pytest.raises(SpecError, match=r"^attributes.datasets: is required"):
        EmbeddingPipelineComponent.from_attributes_dict(attributes={"name": "p", "embedding": kit.HASH})


def test_dg_finds_the_components_and_their_schema() -> None:
    table = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
    assert table[DG_PLUGIN_ENTRY_POINT_GROUP] == {"embed_assets": "embed_assets"}
    assert {name for name, _ in get_package_objects_in_module(embed_assets)} == {
        "DeploymentComponent",
        "EmbeddingPipelineComponent",
    }
    assert embed_assets.EmbeddingPipelineComponent.get_model_cls() is PipelineAttributes
    assert "datasets" in PipelineAttributes.model_json_schema()["properties"]
