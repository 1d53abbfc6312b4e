"""The embedded backend as a Dagster resource."""

import contextlib
from collections.abc import Iterator
from typing import Any

from pydantic import Field

from embed_worker.lake.manifests import Canaries
from embed_worker.lake.spec import EmbeddingSpec
from resources.dagster import ComputeResource, EmbedQueries
from resources.folders import run_folder
from resources.local.compute import LocalCompute
from resources.local.process import Limits, WorkerProcess


class LocalComputeResource(ComputeResource):
    """Embeds on this machine with the worker's own environment. No cloud, no GPU needed."""

    worker_python: str = Field(description="Python of the environment that has vLLM and embed_worker.")
    workers: int = Field(default=1, ge=1, description="Worker processes; each loads the model.")
    poll_seconds: float = Field(default=0.5, gt=0)
    start_seconds: float = Field(
        default=Limits.start,
        gt=0,
        description="A worker that has not begun to work by then is killed.",
    )
    load_seconds: float = Field(
        default=Limits.load, gt=0, description="So is one that has not fetched and loaded its model by then."
    )

    def _limits(self) -> Limits:
        return Limits(self.start_seconds, self.load_seconds)

    @contextlib.contextmanager
    def session(self) -> Iterator[LocalCompute]:
        """A backend that lives as long as the run; its workers end with it, whatever happens."""
        with run_folder("logs") as folder:
            compute = LocalCompute(self.worker_python, self.workers, self.poll_seconds, folder, self._limits())
            try:
                yield compute
            finally:
                compute.close()

    @contextlib.contextmanager
    def queries(self, spec: EmbeddingSpec, space: Canaries | None) -> Iterator[EmbedQueries]:
        """Its calls raise RuntimeError with the worker's reason where it cannot."""
        asked: dict[str, Any] = {"spec": spec.model_dump(mode="json")}
        if space is not None:
            asked["space"] = space.model_dump(mode="json")
        with run_folder("query") as folder:
            process = WorkerProcess(self.worker_python, folder / "query.log", self._limits())
            try:
                yield lambda texts: _vectors(process, {**asked, "texts": texts})
            finally:
                process.stop()


def _vectors(process: WorkerProcess, query: dict[str, Any]) -> list[list[float]]:
    with contextlib.suppress(OSError):  # dead already: its death says how
        process.send({"query": query})
    answer = None
    while answer is None and process.death() is None:
        answer = process.answer(timeout=0.5)
    answer = answer or process.answer() or {"error": f"{process.death()}\n{process.tail(20)}"}
    if "vectors" not in answer:
        raise RuntimeError(answer.get("error") or "the worker gave no answer")
    vectors: list[list[float]] = answer["vectors"]
    return vectors
