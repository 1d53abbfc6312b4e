"""`embed-assets`: the commands beside the Dagster UI."""

from embed_assets.cli.app import app

__all__ = ["app"]
