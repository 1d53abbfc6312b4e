"""A Dagster data platform that turns millions of texts into embeddings. The names in `__all__` are public, and
those of `embed_assets.testing`; all else is the house's own."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from embed_assets.component import DeploymentComponent, EmbeddingPipelineComponent
    from embed_assets.graph.alerts import RedCheck, build_check_alert_sensor
    from embed_assets.graph.factory import build_definitions
    from embed_assets.graph.public import asset_keys, build_assets, build_jobs, partitions_of, specs
    from embed_assets.graph.reading import EmbeddingsIOManager
    from embed_assets.reading.lake import Lake
    from embed_assets.reading.resource import LakeResource
    from embed_assets.settings import Settings
    from embed_assets.spec import DatasetSpec, EmbeddingPipeline, SpecError, load_pipeline, load_pipelines
    from embed_worker.lake.errors import LakeError
    from resources.local.resource import LocalComputeResource
    from resources.skypilot.resource import SkyPilotResource

__version__ = "0.1.0"

__all__ = [
    "DatasetSpec",
    "DeploymentComponent",
    "EmbeddingPipeline",
    "EmbeddingPipelineComponent",
    "EmbeddingsIOManager",
    "Lake",
    "LakeError",
    "LakeResource",
    "LocalComputeResource",
    "RedCheck",
    "Settings",
    "SkyPilotResource",
    "SpecError",
    "asset_keys",
    "build_assets",
    "build_check_alert_sensor",
    "build_definitions",
    "build_jobs",
    "load_pipeline",
    "load_pipelines",
    "partitions_of",
    "specs",
]

_HOMES = {
    "DatasetSpec": "embed_assets.spec",
    "DeploymentComponent": "embed_assets.component",
    "EmbeddingPipeline": "embed_assets.spec",
    "EmbeddingPipelineComponent": "embed_assets.component",
    "EmbeddingsIOManager": "embed_assets.graph.reading",
    "Lake": "embed_assets.reading.lake",
    "LakeError": "embed_worker.lake.errors",
    "LakeResource": "embed_assets.reading.resource",
    "LocalComputeResource": "resources.local.resource",
    "RedCheck": "embed_assets.graph.alerts",
    "Settings": "embed_assets.settings",
    "SkyPilotResource": "resources.skypilot.resource",
    "SpecError": "embed_assets.spec",
    "asset_keys": "embed_assets.graph.public",
    "build_assets": "embed_assets.graph.public",
    "build_jobs": "embed_assets.graph.public",
    "build_check_alert_sensor": "embed_assets.graph.alerts",
    "build_definitions": "embed_assets.graph.factory",
    "load_pipeline": "embed_assets.spec",
    "load_pipelines": "embed_assets.spec",
    "partitions_of": "embed_assets.graph.public",
    "specs": "embed_assets.graph.public",
}


def __getattr__(name: str) -> Any:
    """Loads a public name when it is asked for: a command that reads a lake does not wait for Dagster."""
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """Dagster's `dg` looks for Components among these."""
    return [*globals(), *__all__]
