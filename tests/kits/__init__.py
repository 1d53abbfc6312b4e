"""Everything that several tests lean on. tests/README.md is the map."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
"""The repository."""
