"""A backend without workers, as the package ships it for its users' tests."""

from embed_assets.testing.compute import InProcess, InProcessCompute

__all__ = ["InProcess", "InProcessCompute"]
