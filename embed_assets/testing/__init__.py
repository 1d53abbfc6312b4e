"""For the tests of those who build on a pipeline: its whole graph in one process, without a model or a worker.

Takes the extra `testing`. The names in `__all__` are public.
"""

from embed_assets.testing.compute import InProcessCompute
from embed_assets.testing.exact import assert_exact
from embed_assets.testing.made import Made
from embed_assets.testing.run import hashed, materialize

__all__ = ["InProcessCompute", "Made", "assert_exact", "hashed", "materialize"]
