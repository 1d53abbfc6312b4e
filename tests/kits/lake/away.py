"""A lake that does not answer."""

from functools import cached_property

from embed_worker.lake.errors import StoreUnavailable
from embed_worker.lake.store import Store
from resources.lake import Lake


class AwayStore(Store):
    """Does not answer for some of its paths."""

    away: str | None = None
    """A part of the paths that do not answer; "" is in all of them."""
    asked = 0
    """How often it did not answer."""

    def path(self, path: str) -> str:
        """Every call asks for it first."""
        if self.away is not None and self.away in path:
            self.asked += 1
            raise StoreUnavailable(f"{path}: the store cannot be reached")
        return super().path(path)


class AwayLake(Lake):
    @cached_property
    def store(self) -> AwayStore:  # type: ignore[override]
        return AwayStore(self.root)
