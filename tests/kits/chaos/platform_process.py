"""What the forked processes of a platform storm do: a Dagster process over the whole graph, and a worker."""

import logging
import os
import sys
import time
import warnings
from collections.abc import Generator
from pathlib import Path
from typing import Any

import dagster as dg
import yaml
from dagster._core.storage.tags import ASSET_PARTITION_RANGE_END_TAG, ASSET_PARTITION_RANGE_START_TAG
from pydantic import BaseModel

from embed_assets.deployment import deployed
from embed_assets.graph.keys import ASSETS, EMBEDDING_SET, RAW_REVIEWS, VECTOR_INDEX, asset_key
from embed_assets.graph.partitions import PipelinePartitions
from embed_assets.settings import Settings
from embed_assets.spec import EmbeddingPipeline
from embed_worker import __main__ as worker_main
from embed_worker.engine import loading as models
from embed_worker.engine.base import RequestSource, Result
from embed_worker.engine.hash import HashEngine
from embed_worker.lake import failpoints
from resources.dagster import ComputeResource
from resources.local.resource import LocalComputeResource
from tests.kits import pipelines as kit
from tests.kits.chaos.detached_compute import DetachedComputeResource

GRAPH = ASSETS
WAIT = "EMBED_CHAOS_SLOW"
"""Environment of a worker: seconds a vector takes, so that kills find something to hit."""


class StormDeployment(BaseModel):
    """All that a Dagster process needs to know, on its way through JSON."""

    home: str
    lake: str
    sources: dict[str, str]
    strides: int
    jobs: str
    address: str
    local: bool = False
    """Workers of the embedded backend, which end with the driver."""
    attempts: int = 3
    graph: tuple[str, ...] = GRAPH[:3]
    deltas: bool = False
    """Of the partitions, the deltas alone."""
    failpoints: dict[str, str] = {}
    """Asset → what is armed while it is materialized."""

    def pipeline(self) -> EmbeddingPipeline:
        datasets = [kit.dataset(path, name=name, strides=self.strides) for name, path in self.sources.items()]
        return kit.pipeline(datasets)

    def definitions(self) -> dg.Definitions:
        compute: ComputeResource = DetachedComputeResource(address=self.address, folder=self.jobs)
        if self.local:
            compute = LocalComputeResource(worker_python=sys.executable, workers=2, poll_seconds=0.03)
        settings = Settings(lake=self.lake, max_attempts=self.attempts)
        return deployed([self.pipeline()], settings, compute)

    def partitions(self, asset: str) -> list[str]:
        partitions = PipelinePartitions(self.pipeline())
        of = partitions.datasets if asset in (EMBEDDING_SET, VECTOR_INDEX) else partitions.strides
        keys = list((partitions.snapshots if asset == RAW_REVIEWS else of).get_partition_keys())
        return [key for key in keys if key.endswith("-delta")] if self.deltas else keys

    def make_home(self) -> None:
        Path(self.home).mkdir(parents=True)
        settings = {
            "telemetry": {"enabled": False},
            "nux": {"enabled": False},
            "compute_logs": {
                "module": "dagster._core.storage.noop_compute_log_manager",
                "class": "NoOpComputeLogManager",
            },
        }
        Path(self.home, "dagster.yaml").write_text(yaml.safe_dump(settings))

    def materialize(self, asset: str, instance: dg.DagsterInstance) -> dg.ExecuteInProcessResult:
        keys = self.partitions(asset)
        ends = {ASSET_PARTITION_RANGE_START_TAG: keys[0], ASSET_PARTITION_RANGE_END_TAG: keys[-1]}
        one = len(keys) == 1
        return (
            self.definitions()
            .resolve_implicit_global_asset_job_def()
            .execute_in_process(
                instance=instance,
                asset_selection=[asset_key(self.pipeline(), asset)],
                partition_key=keys[0] if one else None,
                tags=None if one else ends,
                run_config={"loggers": {"console": {"config": {"log_level": "WARNING"}}}},
                raise_on_error=False,
            )
        )


def dagster(given: dict[str, Any]) -> int:
    """Materializes the graph, asset by asset. 1 where a run fails."""
    warnings.filterwarnings("ignore")
    logging.getLogger("dagster").setLevel(logging.ERROR)
    deployment = StormDeployment.model_validate(given)
    os.environ["DAGSTER_HOME"] = deployment.home
    with dg.DagsterInstance.get() as instance:
        for asset in deployment.graph:
            failpoints.arm(deployment.failpoints.get(asset, ""))
            result = deployment.materialize(asset, instance)
            failpoints.arm("")
            print(asset, result.run_id, result.success, flush=True)
            if not result.success:
                return 1
    return 0


class SlowEngine(HashEngine):
    def embed(self, source: RequestSource) -> Generator[Result, None, None]:
        wait = float(os.environ.get(WAIT, "0"))
        for key, vector in super().embed(source):
            time.sleep(wait)
            yield key, vector


def worker(url: str) -> int:
    failpoints.arm(os.environ.get(failpoints.VARIABLE, ""))
    models.HashEngine = SlowEngine  # type: ignore[misc]
    sys.argv = ["embed_worker", url]
    return int(worker_main.main())
