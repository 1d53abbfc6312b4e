"""The tests; README.md is the map."""

import pytest

pytest.register_assert_rewrite("tests.kits")
