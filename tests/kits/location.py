"""A code location of one pipeline file, with an instance and a lake of its own; its jobs run in this process."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg

from tests.kits import pipelines as kit
from tests.kits.pipeline_files import pipeline_file

LOCATION = """
from pathlib import Path
import dagster as dg
from embed_assets import Settings, load_pipeline
from embed_assets.deployment import deployed
from embed_assets.testing import InProcessCompute

here = Path(__file__).parent
settings = Settings(lake=str(here / "lake"), partitions_per_run={per_run})
defs = dg.Definitions.merge(
    deployed([load_pipeline(here / "p.yaml")], settings, InProcessCompute()),
    dg.Definitions(schedules=[dg.ScheduleDefinition(name="nightly", job_name="p__update", cron_schedule="0 3 * * *")]),
)
"""
QUIET = """
telemetry: {enabled: false}
compute_logs: {module: dagster._core.storage.noop_compute_log_manager, class: NoOpComputeLogManager}
run_coordinator: {module: dagster._core.run_coordinator.default_run_coordinator, class: DefaultRunCoordinator}
run_launcher: {module: dagster._core.launcher.sync_in_memory_run_launcher, class: SyncInMemoryRunLauncher}
"""


class Location:
    """The datasets `d` and `e`, of two partitions each."""

    def __init__(self, folder: Path, changes: dict[str, Any] | None = None) -> None:
        self.folder, self.home = folder, folder / "home"
        self.home.mkdir()
        (self.home / "dagster.yaml").write_text(QUIET)
        source = kit.write_jsonl(folder / "a.jsonl", kit.texts(8))
        one = {"source": str(source), "text": "{text}", "strides": 2}
        pipeline_file(folder, {"datasets": [{"name": name, **one} for name in "de"], **(changes or {})})

    def file(self, per_run: int = 100) -> Path:
        """The file that Dagster loads, once: it keeps what it has found in it."""
        file = self.folder / f"location_{per_run}.py"
        file.write_text(LOCATION.format(per_run=per_run))
        return file

    @contextmanager
    def instance(self) -> Iterator[dg.DagsterInstance]:
        with dg.DagsterInstance.from_config(str(self.home)) as instance:
            yield instance

    def materialized(self, asset: str) -> set[str]:
        """Partitions that are there, by Dagster's event log."""
        with self.instance() as instance:
            return set(instance.get_materialized_partitions(dg.AssetKey(["p", asset])))

    def failure(self) -> str:
        """Why the last run failed."""
        with self.instance() as instance:
            (run,) = instance.get_run_records(limit=1)
            (failed,) = instance.all_logs(run.dagster_run.run_id, of_type=dg.DagsterEventType.STEP_FAILURE)
        assert failed.dagster_event is not None
        data = failed.dagster_event.step_failure_data.user_failure_data
        assert data is not None, failed.user_message
        return str(data.description)
