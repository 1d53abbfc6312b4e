"""Fixtures of the tests that start with a folder as lake."""

from pathlib import Path

import pytest

from embed_worker.lake.store import Store
from tests.kits import pipelines as kit


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
