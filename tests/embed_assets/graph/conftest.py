"""Fixtures of the graph's tests. Their events are kept in memory or on disk, in PostgreSQL where one is named."""

import os
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from tests.kits.graph_bench import GraphBench
from tests.kits.postgres import QUIET, SERVER, in_postgres


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[GraphBench]:
    if server := os.environ.get(SERVER):
        (tmp_path / "home").mkdir()
        with in_postgres(server, tmp_path / "home") as instance:
            yield GraphBench(tmp_path, instance)
        return
    with dg.DagsterInstance.ephemeral() as instance:
        yield GraphBench(tmp_path, instance)


@pytest.fixture
def lasting(tmp_path: Path) -> Iterator[GraphBench]:
    """With an instance on disk, which other threads may read and write."""
    (tmp_path / "home").mkdir()
    with dg.DagsterInstance.local_temp(str(tmp_path / "home"), overrides=QUIET) as instance:
        yield GraphBench(tmp_path, instance)
