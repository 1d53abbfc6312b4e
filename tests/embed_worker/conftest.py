"""Fixtures of the worker's tests."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.kits import LONG
from tests.kits.chaos.figures import record
from tests.kits.lake.fault_proxy import FaultProxy

settings.register_profile(
    "worker",
    derandomize=not LONG,
    deadline=None,
    max_examples=40,
    suppress_health_check=[HealthCheck.too_slow],
    print_blob=True,
)
settings.load_profile("worker")


@pytest.fixture
def record_faults() -> Callable[[FaultProxy], None]:
    """Adds a proxy's faults to the figures of `make chaos`, where it runs."""

    def add(proxy: FaultProxy) -> None:
        record(s3_faults=sum(proxy.faults.values()))

    return add


@pytest.fixture
def lake(tmp_path: Path) -> str:
    return str(tmp_path / "lake")


@pytest.fixture(params=["local", "s3"])
def any_lake(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue("lake" if request.param == "local" else "s3_root"))
