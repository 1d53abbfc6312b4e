"""Everything that several tests lean on. tests/README.md is the map."""

import os
from pathlib import Path

ROOT = Path(__file__).parents[2]
"""The repository."""

LONG = os.environ.get("HYPOTHESIS_PROFILE") == "long"
"""`make chaos` searches at random; an ordinary run tries the same cases each time."""
