"""A code location of one pipeline, and `dagster asset materialize` in it, in this process."""

from pathlib import Path

import dagster as dg
from click.testing import CliRunner
from dagster._cli import cli

from tests.kits import pipelines as kit
from tests.kits.pipeline_files import pipeline_file

LOCATION = """
from pathlib import Path
from embed_assets import Settings, load_pipeline
from embed_assets.deployment import deployed
from embed_assets.testing import InProcessCompute

here = Path(__file__).parent
settings = Settings(lake=str(here / "lake"), partitions_per_run={per_run})
defs = deployed([load_pipeline(here / "p.yaml")], settings, InProcessCompute())
"""


class DagsterCli:
    """The datasets `d` and `e`, of two partitions each."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.home = folder, folder / "home"
        self.home.mkdir()
        (self.home / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
        source = kit.write_jsonl(folder / "a.jsonl", kit.texts(8))
        one = {"source": str(source), "text": "{text}", "strides": 2}
        pipeline_file(folder, {"datasets": [{"name": name, **one} for name in "de"]})

    def materialize(self, *arguments: str, per_run: int = 100) -> str:
        """What the command refuses, or what failed its run; nothing where all is made."""
        file = self.folder / f"location_{per_run}.py"  # Dagster keeps what it has loaded from a file
        file.write_text(LOCATION.format(per_run=per_run))
        env = {"DAGSTER_HOME": str(self.home)}
        done = CliRunner().invoke(cli, ["asset", "materialize", "-f", str(file), *arguments], env=env)
        if not done.exit_code:
            return ""
        return self._failure() if isinstance(done.exception, SystemExit) else str(done.exception)

    def materialized(self, asset: str) -> set[str]:
        with self._instance() as instance:
            return set(instance.get_materialized_partitions(dg.AssetKey(["p", asset])))

    def _failure(self) -> str:
        with self._instance() as instance:
            (run,) = instance.get_run_records(limit=1)
            (failed,) = instance.all_logs(run.dagster_run.run_id, of_type=dg.DagsterEventType.STEP_FAILURE)
        assert failed.dagster_event is not None
        data = failed.dagster_event.step_failure_data.user_failure_data
        assert data is not None, failed.user_message
        return str(data.description)

    def _instance(self) -> dg.DagsterInstance:
        return dg.DagsterInstance.from_config(str(self.home))
