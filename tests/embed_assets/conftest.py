"""Fixtures of the platform's tests."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.kits import LONG
from tests.kits.fixtures import lake, source, store
from tests.kits.pipelines import Prepared

__all__ = ["lake", "source", "store"]

settings.register_profile(
    "platform",
    derandomize=not LONG,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
settings.load_profile("platform")


@pytest.fixture
def prepared(lake: Path, source: Path) -> Prepared:
    """A lake with two of three shards committed."""
    made = Prepared(lake, str(source))
    made.embed(0)
    made.embed(1)
    return made
