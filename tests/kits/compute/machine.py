"""A prepared dataset, and worker processes of this machine that make its shards."""

import sys
from pathlib import Path
from typing import Any

from embed_assets.checks.proof import Proof
from embed_assets.drive.driver import Driver
from embed_assets.drive.events import Outcome
from embed_worker.lake.job import EmbedJob
from resources.compute import JobHandle, JobState, JobStatus
from resources.local.compute import LocalCompute
from tests.kits import pipelines as kit
from tests.kits.processes import wait_until


class Machine:
    """A prepared dataset and a LocalCompute."""

    def __init__(
        self,
        folder: Path,
        python: str = sys.executable,
        workers: int = 1,
        rows: int = 20,
        strides: int = 4,
        **options: Any,
    ) -> None:
        source = kit.write_jsonl(folder / "source.jsonl", kit.texts(rows))
        self.ready = kit.Prepared(folder / "lake", str(source), strides=strides)
        self.compute = LocalCompute(python, workers, 0.02, folder / "logs", **options)
        self.seen: set[int] = set()
        self.warnings: list[str] = []

    def submit(self, stride: int, **changes: Any) -> JobHandle:
        job = self.ready.job(stride, **changes)
        return self.compute.submit(f"job-{stride}-{job.fingerprint}", job, self.ready.resource.write_job(job))

    def until(self, *states: JobState, handles: list[JobHandle]) -> list[JobStatus]:
        """Polls until every job is in one of the states."""

        def poll() -> list[JobStatus] | None:
            found = list(self.compute.poll(handles).values())
            self.seen.update(s.facts.worker_pid for s in found if s.facts.worker_pid is not None)
            return found if all(status.state in states for status in found) else None

        found: list[JobStatus] = wait_until(poll, "the job's end")
        return found

    def final(self, *handles: JobHandle) -> list[JobStatus]:
        final = [state for state in JobState if state.final]
        return self.until(*final, handles=list(handles))

    def drive(self, *jobs: EmbedJob, **options: Any) -> list[Outcome]:
        def tell(text: str, *, warning: bool = False) -> None:
            if warning:
                self.warnings.append(text)

        driver = Driver(
            self.ready.resource, self.compute, jobs, prove=lambda job, manifest: Proof(), tell=tell, **options
        )
        return list(driver.run())
