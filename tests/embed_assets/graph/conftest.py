"""Fixtures of the graph's tests."""

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from tests.kits.graph_bench import GraphBench


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[GraphBench]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield GraphBench(tmp_path, instance)


@pytest.fixture
def lasting(tmp_path: Path) -> Iterator[GraphBench]:
    """With an instance on disk, which other threads may read and write."""
    (tmp_path / "home").mkdir()
    quiet = {
        "compute_logs": {"module": "dagster._core.storage.noop_compute_log_manager", "class": "NoOpComputeLogManager"}
    }
    with dg.DagsterInstance.local_temp(str(tmp_path / "home"), overrides=quiet) as instance:
        yield GraphBench(tmp_path, instance)
