"""What Dagster loads: the definitions of the pipelines that EMBED_PIPELINES names."""

from embed_assets.deployment import load_deployment
from embed_assets.settings import Settings

defs = load_deployment(Settings())
