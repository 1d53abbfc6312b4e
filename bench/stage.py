"""A lake, a Dagster home and a fleet in a temporary folder, and runs launched as Dagster launches them."""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import dagster as dg
from dagster._core.definitions.reconstruct import ReconstructableJob, ReconstructableRepository
from dagster._core.storage.tags import ASSET_PARTITION_RANGE_END_TAG, ASSET_PARTITION_RANGE_START_TAG
from dagster._grpc.types import ExecuteRunArgs

from bench.cloud import Weather
from bench.fleet import Line

ROOT = Path(__file__).parents[1]
PIPELINE = """\
name: bench
datasets:
{datasets}
embedding: {{model: embed-worker/hash, pooling: mean, attention: bidirectional, max_tokens: 128}}
checkpoint_rows: 64
"""
DATASET = '  - {{name: {name}, source: {source}, text: "{{text}}", strides: {strides}}}'
DAGSTER_YAML = "telemetry:\n  enabled: false\n"


@dataclass(frozen=True)
class Stage:
    """What the processes of a bench share."""

    folder: Path
    line: Line
    instance: dg.DagsterInstance

    @property
    def lake(self) -> Path:
        return self.folder / "lake"

    def create_run(self, job: str, partitions: list[str], *, single: bool = False) -> dg.DagsterRun:
        """A run over a range of partitions (or of one), recorded as the daemon records it."""
        repository = ReconstructableRepository.for_module("bench.definitions", "defs", str(ROOT))
        recon = ReconstructableJob(repository=repository, job_name=job)
        tags = {ASSET_PARTITION_RANGE_START_TAG: partitions[0], ASSET_PARTITION_RANGE_END_TAG: partitions[-1]}
        if single:
            tags = {"dagster/partition": partitions[0]}
        return self.instance.create_run_for_job(
            recon.get_definition(), tags=tags, job_code_origin=recon.get_python_origin()
        )

    def launch(self, run: dg.DagsterRun) -> subprocess.Popen[bytes]:
        """`dagster api execute_run`: a run worker as Dagster's launchers for containers start it."""
        assert run.job_code_origin is not None
        arguments = ExecuteRunArgs(run.job_code_origin, run.run_id, self.instance.get_ref(), True)
        command = [sys.executable, "-m", "dagster", "api", "execute_run", dg.serialize_value(arguments)]
        log = (self.folder / f"run-{run.run_id}.log").open("wb")
        with log:
            return subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT)

    def execute(self, run: dg.DagsterRun) -> None:
        """Launches a run and waits for its success."""
        process = self.launch(run)
        if process.wait() != 0:
            raise RuntimeError((self.folder / f"run-{run.run_id}.log").read_text()[-4000:])


@contextlib.contextmanager
def staged(weather: Weather, datasets: dict[str, int], rows_each: int = 8) -> Iterator[Stage]:
    """A stage with raw_reviews and stride_partitions of all datasets materialized."""
    with tempfile.TemporaryDirectory(prefix="embed-bench-") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        _write_pipeline(folder, datasets, rows_each)
        (folder / "home").mkdir()
        (folder / "home" / "dagster.yaml").write_text(DAGSTER_YAML)
        (folder / "weather.json").write_text(json.dumps(asdict(weather)))
        os.environ |= {
            "DAGSTER_HOME": str(folder / "home"),
            "EMBED_PIPELINES": str(folder / "bench.yaml"),
            "EMBED_LAKE": str(folder / "lake"),
            "SKYPILOT_DISABLE_LOCAL_API_SERVER": "1",
            "SKYPILOT_DISABLE_USAGE_COLLECTION": "1",
            "BENCH_FLEET": str(folder / "fleet.sock"),
        }
        cloud = subprocess.Popen(
            [sys.executable, "-m", "bench.cloud", str(folder / "fleet.sock"), str(folder / "weather.json")], cwd=ROOT
        )
        stack.callback(cloud.wait)
        stack.callback(cloud.terminate)
        while not (folder / "fleet.sock").exists():
            if cloud.poll() is not None:
                raise RuntimeError("the simulated fleet did not start")
            time.sleep(0.05)
        line = stack.enter_context(contextlib.closing(Line(str(folder / "fleet.sock"))))
        instance = stack.enter_context(dg.DagsterInstance.get())
        stage = Stage(folder, line, instance)
        for dataset, strides in datasets.items():
            stage.execute(stage.create_run("raw_reviews", [dataset], single=True))
            stage.execute(stage.create_run("stride_partitions", keys_of(dataset, strides)))
        yield stage


def keys_of(dataset: str, strides: int) -> list[str]:
    return [f"{dataset}-{stride:05d}" for stride in range(strides)]


def _write_pipeline(folder: Path, datasets: dict[str, int], rows_each: int) -> None:
    entries = []
    for name, strides in datasets.items():
        source = folder / f"{name}.jsonl"
        rows = ({"text": f"{name} {row}: a film about {row % 97} clocks"} for row in range(strides * rows_each))
        source.write_text("".join(json.dumps(row) + "\n" for row in rows))
        entries.append(DATASET.format(name=name, source=source, strides=strides))
    (folder / "bench.yaml").write_text(PIPELINE.format(datasets="\n".join(entries)))
