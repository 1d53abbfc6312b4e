"""A backend without workers: a job is done when it is submitted."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import ClassVar

from embed_worker.exits import ExitCode
from embed_worker.extras import need
from embed_worker.lake.errors import LakeError
from embed_worker.lake.job import EmbedJob, load_job
from embed_worker.lake.manifests import Canaries
from embed_worker.lake.spec import EmbeddingSpec
from resources.compute import Compute, JobHandle, JobState, JobStatus
from resources.dagster import ComputeResource, EmbedQueries


class InProcess:
    """Runs each job at once, in this process."""

    poll_seconds, slots, outlives_driver = 0.001, 8, False

    def __init__(self) -> None:
        self._ended: dict[JobHandle, JobStatus] = {}

    def advice(self, jobs: int) -> Sequence[str]:
        return ()

    def submit(self, name: str, job: EmbedJob, url: str) -> JobHandle:
        from embed_worker.attempt.runner import run_job
        from embed_worker.engine.loading import load_model
        from embed_worker.errors import WorkerError, exit_code_of

        handle = JobHandle(name, str(len(self._ended)))
        try:
            run_job(load_job(url), lambda: load_model(job.spec), threading.Event())
            self._ended[handle] = JobStatus(JobState.SUCCEEDED)
        except (WorkerError, LakeError) as error:
            bad = exit_code_of(error) is ExitCode.BAD_JOB
            self._ended[handle] = JobStatus(JobState.REFUSED if bad else JobState.FAILED, str(error))
        return handle

    def find(self, names: Sequence[str]) -> dict[str, JobHandle]:
        return {}

    def poll(self, handles: Sequence[JobHandle]) -> dict[JobHandle, JobStatus]:
        return {handle: self._ended[handle] for handle in handles}

    def cancel(self, handles: Sequence[JobHandle]) -> None:
        raise AssertionError("nothing runs on here")

    def logs(self, handle: JobHandle, lines: int = 100) -> str:
        return self._ended[handle].detail


class InProcessCompute(ComputeResource):
    """The resource `compute` of a test: jobs run in Dagster's own process. For the hash engine."""

    backend: ClassVar[Callable[[], InProcess]] = InProcess
    """For a test to replace; Dagster makes a resource anew for each run."""

    @contextmanager
    def session(self) -> Iterator[Compute]:
        need("testing")
        yield type(self).backend()

    @contextmanager
    def queries(self, spec: EmbeddingSpec, space: Canaries | None) -> Iterator[EmbedQueries]:
        from embed_worker.engine.loading import load_model

        model = load_model(spec)
        yield lambda texts: model.embed_texts(texts, spec.prompts.query).tolist()
