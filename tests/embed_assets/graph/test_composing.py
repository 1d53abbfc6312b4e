"""The definitions of pipelines merge into whatever code location they come to."""

from pathlib import Path

import dagster as dg
import pytest

from embed_assets.deployment import deployed
from embed_assets.graph.factory import build_definitions
from embed_assets.settings import Settings
from embed_assets.spec import EmbeddingPipeline
from resources.dagster import LakeResource
from tests.kits import pipelines as kit
from tests.kits.compute.in_process import InProcessCompute


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(lake=str(tmp_path / "lake"))


def pipeline(tmp_path: Path, name: str) -> EmbeddingPipeline:
    source = kit.write_jsonl(tmp_path / f"{name}.jsonl", kit.texts(4))
    return kit.pipeline([kit.dataset(str(source), name=name)]).model_copy(update={"name": name})


def test_two_pipelines_merge(tmp_path: Path, settings: Settings) -> None:
    apart = [build_definitions([pipeline(tmp_path, name)], settings) for name in ("p", "q")]
    merged = dg.Definitions.merge(
        *apart, dg.Definitions(resources={"lake": LakeResource(root="l"), "compute": InProcessCompute()})
    )
    keys = {key.path[0] for key in merged.resolve_asset_graph().get_all_asset_keys()}
    assert keys == {"p", "q"}


def test_a_location_keeps_its_own_executor_and_resources(tmp_path: Path, settings: Settings) -> None:
    @dg.asset
    def of_the_user(theirs: dg.ResourceParam[str]) -> None: ...

    theirs = dg.Definitions(
        assets=[of_the_user],
        resources={"theirs": "x", "lake": LakeResource(root=settings.lake), "compute": InProcessCompute()},
        executor=dg.multiprocess_executor,
    )
    merged = dg.Definitions.merge(theirs, build_definitions([pipeline(tmp_path, "p")], settings))
    dg.Definitions.validate_loadable(merged)
    assert merged.executor is dg.multiprocess_executor


def test_a_deployment_has_all_that_its_assets_ask_for(tmp_path: Path, settings: Settings) -> None:
    dg.Definitions.validate_loadable(deployed([pipeline(tmp_path, "p")], settings, InProcessCompute()))
