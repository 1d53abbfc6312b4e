"""A pipeline in Python, in a code location of the user's own."""

from pathlib import Path

import dagster as dg
import pytest
import yaml

from embed_assets import EmbeddingPipeline, LakeResource, asset_keys, build_assets, partitions_of, specs
from tests.kits import pipelines as kit
from tests.kits.compute.in_process import InProcessCompute

RESOURCES = {"lake": LakeResource(root="lake"), "compute": InProcessCompute()}


@pytest.fixture
def pipeline() -> EmbeddingPipeline:
    datasets = [kit.dataset("a.jsonl", name="a", strides=3), kit.dataset("b.jsonl", name="b", strides=2)]
    return kit.pipeline(datasets, owners=["team:search"])


def test_the_assets_stand_in_a_users_definitions(pipeline: EmbeddingPipeline) -> None:
    @dg.asset(deps=[asset_keys(pipeline)["vector_index"]])
    def theirs() -> None: ...

    definitions = dg.Definitions(assets=[*build_assets(pipeline), theirs], resources=RESOURCES)
    dg.Definitions.validate_loadable(definitions)
    graph = definitions.resolve_asset_graph()
    assert set(asset_keys(pipeline).values()) <= graph.executable_asset_keys
    assert {key.asset_key for key in graph.asset_check_keys} <= set(asset_keys(pipeline).values())


def test_another_location_knows_them_as_external(pipeline: EmbeddingPipeline) -> None:
    keys, partitions = asset_keys(pipeline), partitions_of(pipeline)

    @dg.asset(
        deps=[dg.AssetDep(keys["embedding_shards"], partition_mapping=partitions.strides_to_dataset)],
        partitions_def=partitions.datasets,
    )
    def theirs() -> None: ...

    definitions = dg.Definitions(assets=[*specs(pipeline), theirs])
    dg.Definitions.validate_loadable(definitions)
    graph = definitions.resolve_asset_graph()
    assert graph.executable_asset_keys == {theirs.key}
    home = dg.Definitions(assets=build_assets(pipeline), resources=RESOURCES).resolve_asset_graph()
    for key in keys.values():
        here, there = graph.get(key), home.get(key)
        assert here.partitions_def == there.partitions_def and here.parent_keys == there.parent_keys
        assert (here.group_name, here.owners, here.kinds) == (there.group_name, there.owners, there.kinds)
        assert here.description == there.description


def test_the_partitions_map_both_ways(pipeline: EmbeddingPipeline) -> None:
    partitions = partitions_of(pipeline)
    assert partitions.datasets.get_partition_keys() == ["a", "b"]
    assert partitions.strides.get_partition_keys() == [
        *("a-00000", "a-00001", "a-00002", "b-00000", "b-00001"),
        *("a-delta", "b-delta"),
    ]
    assert partitions.snapshots.get_partition_keys() == ["a", "b", "a-delta", "b-delta"]
    of = partitions.strides_to_dataset.get_upstream_mapped_partitions_result_for_partitions(
        partitions.datasets.subset_with_partition_keys(["b"]), partitions.datasets, partitions.strides
    )
    assert set(of.partitions_subset.get_partition_keys()) == {"b-00000", "b-00001", "b-delta"}


def test_a_pipeline_may_be_its_file(pipeline: EmbeddingPipeline, tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(yaml.safe_dump(pipeline.model_dump(mode="json", exclude_defaults=True)))
    assert asset_keys(str(path)) == asset_keys(pipeline)
    assert partitions_of(path) == partitions_of(pipeline)
    assert [spec.key for spec in specs(path)] == [spec.key for spec in specs(pipeline)]
