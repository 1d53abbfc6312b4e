"""The lake with its vectors, as a Dagster resource."""

import dagster as dg

from embed_assets.reading.lake import Lake
from resources import dagster


class LakeResource(dagster.LakeResource):
    """What a deployment configures; an asset that asks for `dg.ResourceParam[Lake]` gets the lake itself."""

    def create_resource(self, context: dg.InitResourceContext) -> Lake:
        return Lake(self.root)
