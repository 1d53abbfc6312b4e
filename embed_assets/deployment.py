"""One deployment: where its lake is, what computes, and how its runs are executed. Chosen here and nowhere else."""

from collections.abc import Iterable

import dagster as dg

from embed_assets.graph.factory import build_definitions
from embed_assets.reading.resource import LakeResource
from embed_assets.settings import Settings
from embed_assets.spec import EmbeddingPipeline
from resources.dagster import ComputeResource
from resources.local.resource import LocalComputeResource
from resources.skypilot.resource import SkyPilotResource
from resources.skypilot.settings import SkyPilotSettings


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


def deployed(
    pipelines: Iterable[EmbeddingPipeline], settings: Settings, compute: ComputeResource | None = None
) -> dg.Definitions:
    """The pipelines with this deployment's resources and executor."""
    chosen = dg.Definitions(
        resources={"lake": LakeResource(root=settings.lake), "compute": compute or compute_resource(settings)},
        # A process a partition does not scale to hundreds of GPUs: the run's own process drives them all.
        executor=dg.in_process_executor,
    )
    return dg.Definitions.merge(build_definitions(pipelines, settings), chosen)
