"""What Dagster loads: the definitions of the pipelines that EMBED_PIPELINES names."""

import warnings

import dagster as dg

warnings.filterwarnings("ignore", category=dg.PreviewWarning)
warnings.filterwarnings("ignore", category=dg.BetaWarning)

from embed_assets.graph.factory import build_definitions  # noqa: E402
from embed_assets.settings import Settings  # noqa: E402
from embed_assets.spec import load_pipelines  # noqa: E402

_settings = Settings()
defs = build_definitions(load_pipelines(_settings.pipeline_files()), _settings)
