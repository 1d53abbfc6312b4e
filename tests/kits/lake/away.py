"""A lake that does not answer."""

from functools import cached_property
from typing import Any

from embed_worker.lake.errors import StoreUnavailable
from embed_worker.lake.store import Store
from resources.lake import Lake


class AwayStore(Store):
    """Does not answer for some of its paths."""

    away: str | None = None
    """A part of the paths that do not answer; "" is in all of them."""
    asked = 0
    """How often it did not answer."""

    def _errors(self, path: str) -> Any:
        if self.away is not None and self.away in path:
            self.asked += 1
            raise StoreUnavailable(f"{path}: the store cannot be reached")
        return super()._errors(path)


class AwayLake(Lake):
    @cached_property
    def store(self) -> AwayStore:  # type: ignore[override]
        return AwayStore(self.root)
