"""What Dagster loads: the definitions of the pipelines that EMBED_PIPELINES names."""

import warnings

import dagster as dg

warnings.filterwarnings("ignore", category=dg.PreviewWarning)
warnings.filterwarnings("ignore", category=dg.BetaWarning)

from embed_assets.deployment import deployed  # noqa: E402
from embed_assets.settings import Settings  # noqa: E402
from embed_assets.spec import load_pipelines  # noqa: E402

_settings = Settings()
defs = deployed(load_pipelines(_settings.pipeline_files()), _settings)
