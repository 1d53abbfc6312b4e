"""Planted secrets and a real Dagster run on the hash engine: none is in the lake, the event log or a log."""

from pathlib import Path

import dagster as dg
import pytest

from resources.skypilot.task import load_task, with_secrets
from tests.kits.graph_bench import GraphBench

pytestmark = pytest.mark.slow

SECRET = "hunter2-planted"
NAMES = ("AWS_SECRET_ACCESS_KEY", "HF_TOKEN", "SKYPILOT_SERVICE_ACCOUNT_TOKEN", "FSSPEC_S3_SECRET")


def holding(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]


def test_planted_secrets_are_nowhere_after_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in NAMES:
        monkeypatch.setenv(name, SECRET)
    (tmp_path / "dagster").mkdir()
    with dg.DagsterInstance.local_temp(str(tmp_path / "dagster")) as instance:
        bench = GraphBench(tmp_path, instance)
        bench.strides = {"a": 1, "b": 1}
        bench.prepare()
        run = bench.embed()
        assert run.success
        assert SECRET not in bench.log(run)
    assert list((tmp_path / "dagster").rglob("*.db")) and list((tmp_path / "lake").rglob("_manifest.json"))
    assert holding(tmp_path) == []
    assert SECRET not in "".join(capfd.readouterr())


def test_skypilot_secrets_stay_apart_from_envs_and_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", SECRET)
    task = with_secrets(load_task(None, "embed_partition.yaml"), ["HF_TOKEN"])
    assert task["secrets"]["HF_TOKEN"] == SECRET
    assert SECRET not in repr({key: value for key, value in task.items() if key != "secrets"})
