"""The real definitions, with the simulated fleet as their compute backend."""

import os

import dagster as dg

from bench.fleet import SimulatedFleetResource, skypilot_installed
from embed_assets.deployment import deployed
from embed_assets.graph.keys import asset_key
from embed_assets.settings import Settings
from embed_assets.spec import load_pipelines

settings = Settings()
pipelines = load_pipelines(settings.pipeline_files())
fleet = SimulatedFleetResource(address=os.environ["BENCH_FLEET"], load_skypilot=skypilot_installed())
jobs = [
    dg.define_asset_job(name, selection=dg.AssetSelection.assets(asset_key(pipelines[0], name)))
    for name in ("raw_reviews", "stride_partitions", "embedding_shards")
]
defs = dg.Definitions.merge(
    deployed(pipelines, settings, fleet),
    dg.Definitions(jobs=jobs),
)
