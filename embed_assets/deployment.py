"""One deployment: where its lake is, what computes, and how its runs are executed. Chosen here and nowhere else."""

import logging
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

import dagster as dg

from embed_assets.graph.code_reference import code_reference
from embed_assets.graph.factory import build_definitions
from embed_assets.reading.resource import LakeResource
from embed_assets.settings import Settings
from embed_assets.spec import EmbeddingPipeline, SpecError, load_apart
from resources.dagster import ComputeResource
from resources.local.resource import LocalComputeResource
from resources.skypilot.resource import SkyPilotResource
from resources.skypilot.settings import SkyPilotSettings

log = logging.getLogger(__name__)

NOT_LOADED = "not_loaded"
"""Group of the pipeline files that cannot be used."""


def load_deployment(settings: Settings) -> dg.Definitions:
    """All that this deployment's pipeline files define. One that cannot be used stands as an asset that says why;
    raises SpecError where none can."""
    pipelines, faults = load_apart(settings.pipeline_files())
    if not pipelines:
        raise next(iter(faults.values()))
    for error in faults.values():
        log.error("%s", error)
    files = {pipeline.name: path for path, pipeline in pipelines.items()}
    return dg.Definitions.merge(
        build_definitions(pipelines.values(), settings, files),
        deployment_definitions(settings),
        dg.Definitions(assets=_not_loaded(faults)),
    )


def _not_loaded(faults: Mapping[Path, SpecError]) -> list[dg.AssetSpec]:
    stems = Counter(path.stem for path in faults)
    return [
        dg.AssetSpec(
            dg.AssetKey([NOT_LOADED, *([path.stem] if stems[path.stem] == 1 else path.relative_to(path.anchor).parts)]),
            group_name=NOT_LOADED,
            description=f"This pipeline file cannot be used; the others are loaded.\n\n{error}",
            metadata={"file": dg.MetadataValue.path(str(path)), "error": str(error), **code_reference(path)},
        )
        for path, error in faults.items()
    ]


def compute_resource(settings: Settings) -> ComputeResource:
    """The backend that the deployment chose."""
    if settings.compute == "skypilot":
        chosen = SkyPilotSettings().model_dump()
        return SkyPilotResource(**chosen, worker_python=settings.worker_python)
    return LocalComputeResource(
        worker_python=settings.worker_python,
        workers=settings.local_workers,
        start_seconds=settings.local_start_seconds,
        load_seconds=settings.local_load_seconds,
    )


def deployment_definitions(settings: Settings, compute: ComputeResource | None = None) -> dg.Definitions:
    """What the assets of pipelines ask for, and no asset."""
    return dg.Definitions(
        resources={"lake": LakeResource(root=settings.lake), "compute": compute or compute_resource(settings)},
        # A process a partition does not scale to hundreds of GPUs: the run's own process drives them all.
        executor=dg.in_process_executor,
    )


def deployed(
    pipelines: Iterable[EmbeddingPipeline], settings: Settings, compute: ComputeResource | None = None
) -> dg.Definitions:
    """The pipelines with this deployment's resources and executor."""
    return dg.Definitions.merge(build_definitions(pipelines, settings), deployment_definitions(settings, compute))
