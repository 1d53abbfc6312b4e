"""Fixtures of the chaos suites."""

from pathlib import Path

import pytest

pytest.register_assert_rewrite("tests.chaos.partition", "tests.chaos.platform_storm", "tests.worker.kit")


@pytest.fixture
def lake(tmp_path: Path) -> str:
    return str(tmp_path / "lake")
