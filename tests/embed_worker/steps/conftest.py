"""Fixtures of the tests of readers and cut."""

from tests.kits.fixtures import lake, source, store

__all__ = ["lake", "source", "store"]
