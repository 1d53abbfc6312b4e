"""Fixtures of the checks' tests."""

from pathlib import Path

import pytest

from tests.kits import pipelines as kit
from tests.kits.checked import ROWS


@pytest.fixture
def ready(tmp_path: Path, lake: Path) -> kit.Prepared:
    """Fourteen rows in two strides; row 7 is of several windows."""
    return kit.Prepared(lake, str(kit.write_jsonl(tmp_path / "s.jsonl", ROWS)), strides=2)
