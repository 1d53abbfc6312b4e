"""The SkyPilot backend as a Dagster resource."""

import contextlib
from collections.abc import Iterator

from pydantic import Field

from embed_worker.lake.manifests import Canaries
from embed_worker.lake.spec import EmbeddingSpec
from resources.dagster import ComputeResource, EmbedQueries
from resources.folders import run_folder
from resources.local.process import WorkerMissing, check_python
from resources.local.resource import LocalComputeResource
from resources.skypilot.client import SkyClient
from resources.skypilot.compute import SkyPilotCompute
from resources.skypilot.places import check_accelerators
from resources.skypilot.settings import SkyPilotFields
from resources.skypilot.task import for_pool, load_task, stage_worker, with_overrides, with_secrets

TASK_FILE = "embed_partition.yaml"


class SkyPilotResource(SkyPilotFields, ComputeResource):
    """Every partition is a SkyPilot managed job, on whatever infrastructure the API server reaches."""

    worker_python: str = Field(
        default=".venv-worker/bin/python",
        description="Python on this machine with embed_worker and vLLM; only to embed search queries.",
    )

    def client(self) -> SkyClient:
        return SkyClient(self.api_server, self.call_timeout_seconds)

    @contextlib.contextmanager
    def session(self) -> Iterator[SkyPilotCompute]:
        """A backend for one run. Its end leaves the jobs alone."""
        config = with_overrides(load_task(self.task_file, TASK_FILE), self.overrides())
        check_accelerators(config)
        config = with_secrets(for_pool(config) if self.pool else config, self.secret_names())
        with run_folder("staged") as folder:
            compute = SkyPilotCompute(self.client(), stage_worker(config, folder), self)
            try:
                yield compute
            finally:
                compute.close()

    @contextlib.contextmanager
    def queries(self, spec: EmbeddingSpec, space: Canaries | None) -> Iterator[EmbedQueries]:
        """A query is answered here and now, by the worker's environment on this machine."""
        try:
            python = check_python(self.worker_python)
        except WorkerMissing as error:
            raise WorkerMissing(
                f"partitions are embedded by SkyPilot, search queries on this machine, but there is {error}"
            ) from error
        with LocalComputeResource(worker_python=python).queries(spec, space) as embed:
            yield embed
