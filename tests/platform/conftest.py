"""Fixtures of the platform's tests."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from embed_worker.store import Store
from tests.platform import kit

settings.register_profile("platform", deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
settings.load_profile("platform")


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    return tmp_path / "lake"


@pytest.fixture
def store(lake: Path) -> Store:
    return Store(str(lake))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Twenty good records as JSON Lines."""
    return kit.write_jsonl(tmp_path / "source.jsonl", kit.texts(20))
