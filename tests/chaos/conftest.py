"""Fixtures of the chaos suites."""

from pathlib import Path

import pytest

pytest.register_assert_rewrite("tests.kits.chaos.partition", "tests.kits.chaos.platform_storm", "tests.kits.worker")


@pytest.fixture
def lake(tmp_path: Path) -> str:
    return str(tmp_path / "lake")
