"""What Dagster loads: the definitions of the pipelines that EMBED_PIPELINES names."""

import warnings

import dagster as dg

warnings.filterwarnings("ignore", category=dg.PreviewWarning)
warnings.filterwarnings("ignore", category=dg.BetaWarning)

from embed_assets.deployment import load_deployment  # noqa: E402
from embed_assets.settings import Settings  # noqa: E402

defs = load_deployment(Settings())
