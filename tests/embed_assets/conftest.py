"""Fixtures of the platform's tests."""

from hypothesis import HealthCheck, settings

from tests.kits.fixtures import lake, source, store

__all__ = ["lake", "source", "store"]

settings.register_profile("platform", deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
settings.load_profile("platform")
