"""The lake and a compute backend as Dagster resources."""

from collections.abc import Callable
from contextlib import AbstractContextManager

import dagster as dg
from pydantic import Field

from embed_worker.lake.manifests import Canaries
from embed_worker.lake.spec import EmbeddingSpec
from resources.compute import Compute
from resources.lake import Lake

EmbedQueries = Callable[[list[str]], list[list[float]]]
"""Search texts → their vectors, made with the spec's query prompt."""


class LakeResource(dg.ConfigurableResource[Lake]):
    """What a deployment configures; an asset that asks for `dg.ResourceParam[Lake]` gets the lake itself."""

    root: str = Field(description="Folder or object-store URL (s3://, gs://, az://) of the lake.")

    def create_resource(self, context: dg.InitResourceContext) -> Lake:
        return Lake(self.root)


class ComputeResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """What a deployment configures; `session` gives a run its backend."""

    def session(self) -> AbstractContextManager[Compute]:
        raise NotImplementedError

    def queries(self, spec: EmbeddingSpec, space: Canaries | None) -> AbstractContextManager[EmbedQueries]:
        """A model that stays loaded. With the canaries of the spec's space, a quicker one may serve that gives them."""
        raise NotImplementedError

    def embed_queries(self, spec: EmbeddingSpec, texts: list[str], space: Canaries | None = None) -> list[list[float]]:
        """Vectors of a few search texts, made with the spec's query prompt."""
        with self.queries(spec, space) as embed:
            return embed(texts)
